//! protocol-http
