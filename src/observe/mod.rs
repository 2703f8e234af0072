//! I/O in: reads the cluster and the mail.
