//! The only place that builds Kubernetes clients.
