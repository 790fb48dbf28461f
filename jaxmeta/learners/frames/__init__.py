"""What learners are made of: the three frames, and what the frames share."""
