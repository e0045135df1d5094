"""What people set in the page: the server's settings while it runs, each user's preferences, and presets of forms."""
