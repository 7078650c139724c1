"""Runs ceph/s3-tests from a checkout of the user's and tells, by area, what passed."""
