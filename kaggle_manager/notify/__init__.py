"""Messages to the user and to a hook, sent by child processes that cannot hold up a run. Imports no other room."""
