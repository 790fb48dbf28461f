"""One gradient of SimCLR on a conv4: a file for each implementation, and what they are given."""
