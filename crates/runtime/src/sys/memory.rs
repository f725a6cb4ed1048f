//! What of this program's memory others could read later.

use std::io;

use crate::weak::weakened;

/// Where the kernel has put the arguments and the environment: fields 48 to 51 of
/// `/proc/self/stat` (proc(5)), each of which is at least this many fields behind the name.
const ARG_START: usize = 45;

/// The addresses of the arguments and of the environment, as the kernel shows them to others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    args: (usize, usize),
    env: (usize, usize),
}

impl Given {
    /// Asks the kernel, through the procfs that is in sight.
    ///
    /// # Errors
    /// When it does not tell.
    pub(crate) fn find() -> io::Result<Given> {
        let stat = crate::procfs::read("/proc/self/stat")?;
        // The name of the program stands in parentheses and may hold anything.
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest);
        let fields = rest.into_iter().flat_map(str::split_ascii_whitespace).skip(ARG_START);
        let numbers: Vec<usize> = fields.take(4).filter_map(|field| field.parse().ok()).collect();
        match *numbers {
            [arg, arg_end, env, env_end] if arg <= arg_end && env <= env_end && arg > 0 => {
                Ok(Given { args: (arg, arg_end), env: (env, env_end) })
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Overwrites both in this process, whose name for others is `name` from now on. Nothing may
    /// ask for the arguments or the environment any more.
    pub(crate) fn forget(self, name: &str) {
        if weakened("memory-kept") {
            return;
        }
        let (start, end) = self.args;
        let length = name.len().min((end - start).saturating_sub(1));
        // SAFETY: the kernel has put the two there for this process to use as it likes, and its
        // stack begins below. The pointers that the C library and the standard library keep lead to
        // empty strings now.
        unsafe {
            for (start, end) in [self.args, self.env] {
                std::ptr::with_exposed_provenance_mut::<u8>(start).write_bytes(0, end - start);
            }
            let args = std::ptr::with_exposed_provenance_mut::<u8>(start);
            args.copy_from_nonoverlapping(name.as_ptr(), length);
        }
    }
}
