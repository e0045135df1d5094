"""Scripts: requests that are made of others.  An X/Y/Z plot, a prompt matrix, prompts from a text and a loopback become cells,
each of which is an ordinary job."""
