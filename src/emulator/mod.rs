//! A control plane to develop and test against.
