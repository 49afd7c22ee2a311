"""`ckptctl doctor`: looks at this machine and the settings, and says how to fix what it finds."""
