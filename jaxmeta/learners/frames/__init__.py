"""The three frames that learners are built from, and what the frames share."""
