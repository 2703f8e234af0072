//! Types of the API: serde, schemars, CEL rules. No decisions.
