//! Keys, signatures, certificates. Pure: no cluster, no clock but for the validity of certificates.

pub mod authorities;
pub mod certificates;
pub mod chain;
pub mod envelope;
pub mod identity;
pub mod requests;
pub mod sealing;
pub mod signing;
pub mod tls;
