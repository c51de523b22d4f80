"""Local networks that stay: started in the background, asked over a socket, found again after a stop."""
