"""One attempt of a job, in the process that runs its body."""
