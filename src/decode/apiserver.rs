//! Lines of the API server's own log (`kube-apiserver`): klog text, old and new.

use std::borrow::Cow;

/// A request line.
#[derive(Debug, Default, PartialEq)]
pub struct Line<'a> {
    pub verb: Cow<'a, str>,
}
