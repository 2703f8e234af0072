//! The mover: backup, restore, verification, capture, activation.
