//! Stub.
use std::io;

use crate::error::Error;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter(Vec<libc::sock_filter>);

/// Compiles.
///
/// # Errors
/// None.
pub fn compile(_profile: &oci::runtime::LinuxSeccomp) -> Result<Filter, Error> {
    let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    Ok(Filter(vec![allow]))
}

impl Filter {
    /// Installs.
    ///
    /// # Errors
    /// Of seccomp(2).
    pub fn install(&self) -> io::Result<()> {
        crate::sys::seccomp_set_filter(&self.0, 0)
    }
}
