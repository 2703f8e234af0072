//! Keys, signatures, certificates.
