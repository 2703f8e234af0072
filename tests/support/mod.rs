//! What several test suites share.

pub mod api_server;
