"""One PCGrad gradient of many tasks on a conv4: a file for each implementation, and the data."""
