//! Vhosts and namespaces: the same, but for the name of the one that always exists.

/// The namespace that always exists.
const NAMESPACE: &str = "default";
/// The same as a vhost.
const VHOST: &str = "/";

/// The namespace that a vhost is. `default` is another name of `/`.
pub(crate) fn namespace(vhost: &str) -> &str {
    if vhost == VHOST { NAMESPACE } else { vhost }
}

/// The vhost that a namespace is.
pub(crate) fn vhost(namespace: &str) -> &str {
    if namespace == NAMESPACE { VHOST } else { namespace }
}
