//! Pulls from registries that lie, and from Debian's docker-registry.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod it {
    mod child;
    mod copy;
    mod credentials;
    mod fake;
    mod honest;
    mod lies;
    mod place;
    mod push;
    mod real;
    mod search;
    mod taker;
}
