//! Which of several rules with conditions is asked first, where it matters.
//!
//! The runtime specification leaves it open; profiles were written against libseccomp, which keeps
//! the conditions of one call in a tree. On each level of it stand comparisons of 32 bits, of the
//! later argument first, equality before upper bounds before lower bounds, and the tighter bound or
//! the larger value first; rules with the same comparison share a node.

use super::arch::Arch;
use super::rule::{Check, Condition, Test};

/// `checks` in the order in which libseccomp would ask.
///
/// Of rules with the same conditions the first counts; libseccomp refuses the second if its action
/// differs.
pub(super) fn as_libseccomp(checks: Vec<Check>, arch: Arch) -> Vec<Check> {
    if checks.windows(2).all(|two| two[0].action == two[1].action) {
        return checks;
    }
    let wide = arch.is_wide();
    let path = |check: &Check| check.conditions.iter().flat_map(|c| steps(c, wide)).collect();
    let branch = |check| Branch { path: path(&check), check };
    let branches = reachable(checks).into_iter().map(branch).collect();
    let mut ordered = Vec::new();
    flatten(branches, 0, &mut ordered);
    ordered
}

/// Leaves out what has all conditions of an earlier rule, and more.
fn reachable(checks: Vec<Check>) -> Vec<Check> {
    let mut found: Vec<Check> = Vec::with_capacity(checks.len());
    for check in checks {
        if !found.iter().any(|earlier| check.conditions.starts_with(&earlier.conditions)) {
            found.push(check);
        }
    }
    found
}

struct Branch {
    path: Vec<Step>,
    check: Check,
}

/// A comparison of half an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step {
    /// The argument, doubled, and one more for its upper half.
    place: u8,
    kind: Kind,
    /// The comparison, whichever of its outcomes is asked for.
    test: Test,
    mask: u32,
    value: u32,
}

/// In the order opposite to that in which they are asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    LowerBound,
    UpperBound,
    Equality,
}

impl Step {
    /// Whether both are the same node of the tree.
    fn is_same(&self, other: &Step) -> bool {
        let node = |step: &Step| (step.place, step.test, step.mask, step.value);
        node(self) == node(other)
    }

    /// Whether it stands behind `other` on one level.
    fn is_behind(&self, other: &Step) -> bool {
        let rank = |step: &Step| (step.place, step.kind);
        match rank(self).cmp(&rank(other)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Equal if self.kind == Kind::UpperBound => self.value > other.value,
            std::cmp::Ordering::Equal => self.value < other.value,
        }
    }
}

fn steps(condition: &Condition, wide: bool) -> Vec<Step> {
    let kind = match (condition.test, condition.negated) {
        (Test::Equal, _) => Kind::Equality,
        (_, true) => Kind::UpperBound,
        (_, false) => Kind::LowerBound,
    };
    let place = condition.argument * 2;
    let half = |shift: u32, test| Step {
        place: place + u8::from(shift > 0),
        kind,
        test,
        mask: (condition.mask >> shift) as u32,
        value: (condition.value >> shift) as u32,
    };
    let low = half(0, condition.test);
    if !wide {
        return vec![low];
    }
    // The upper half of a bound is first tested for being above.
    let upper = if kind == Kind::Equality { Test::Equal } else { Test::Above };
    vec![half(32, upper), low]
}

/// Adds `branches`, which agree up to `depth`, to `ordered`.
fn flatten(branches: Vec<Branch>, depth: usize, ordered: &mut Vec<Check>) {
    let mut level: Vec<(Step, Vec<Branch>)> = Vec::new();
    let mut ended = Vec::new();
    for branch in branches {
        let Some(step) = branch.path.get(depth).copied() else {
            ended.push(branch.check);
            continue;
        };
        let before = level.iter().position(|(x, _)| x.is_same(&step) || x.is_behind(&step));
        match before {
            Some(at) if level[at].0.is_same(&step) => level[at].1.push(branch),
            Some(at) => level.insert(at, (step, vec![branch])),
            None => level.push((step, vec![branch])),
        }
    }
    for (_, below) in level {
        flatten(below, depth + 1, ordered);
    }
    ordered.extend(ended);
}
