"""Figures of the fronts: counted with each request, told to Prometheus, kept by the minute in the catalog."""
