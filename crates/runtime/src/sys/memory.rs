//! What of this program's memory others could read later.

use std::io;

use crate::weak::weakened;

/// Where the kernel has put the heap, the arguments and the environment: fields 47 to 51 of
/// `/proc/self/stat` (proc(5)); the first of them is this many fields behind the name.
const START_BRK: usize = 44;

/// More than the C library keeps of a thread behind the address that names it, in bytes.
const THREAD_MAX: usize = 3 << 10;

/// Where this program has what it was given: the arguments and the environment, as the kernel shows
/// them to others, and the heap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    heap: usize,
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
        let fields = rest.into_iter().flat_map(str::split_ascii_whitespace).skip(START_BRK);
        let numbers: Vec<usize> = fields.take(5).filter_map(|field| field.parse().ok()).collect();
        match *numbers {
            [heap, arg, arg_end, env, env_end] if 0 < arg && arg <= arg_end && env <= env_end => {
                Ok(Given { heap, args: (arg, arg_end), env: (env, env_end) })
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Overwrites arguments and environment in this process, whose name for others is `name` from now on. Nothing may
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

    /// Gives the heap back to the kernel, with all that is in it. No value on it may be used any
    /// more: only a process that lives in a loop on its stack may call this.
    pub(crate) fn forget_heap(self) {
        // SAFETY: no memory is involved; the answers are numbers.
        let (end, thread, page) = unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE);
            (libc::sbrk(0) as usize, libc::pthread_self() as usize, page as usize)
        };
        // A static program's only thread has its own storage at the start of the heap.
        let start =
            if (self.heap..end).contains(&thread) { thread + THREAD_MAX } else { self.heap };
        let (first, end) = (start.next_multiple_of(page), end / page * page);
        if first >= end || weakened("memory-kept") {
            return;
        }
        // SAFETY: this is this process' heap, of which the caller uses nothing any more.
        unsafe {
            std::ptr::with_exposed_provenance_mut::<u8>(start).write_bytes(0, first - start);
            let pages = std::ptr::with_exposed_provenance_mut(first);
            libc::madvise(pages, end - first, libc::MADV_DONTNEED);
        }
    }
}
