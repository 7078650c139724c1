"""Crash consistency: every state that a power cut may leave behind is made, recovered and looked at."""
