//! Traffic with block devices.

use super::IoStats;

/// From `io.stat`.
pub(super) fn traffic_v2(text: &str) -> Vec<IoStats> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next().and_then(|device| entry(&mut found, device)) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.write_bytes = value,
                "rios" => device.read_ops = value,
                "wios" => device.write_ops = value,
                _ => {}
            }
        }
    }
    found
}

/// From lines such as `8:0 Read 4096`.
pub(super) fn traffic_v1(bytes: &str, ops: &str) -> Vec<IoStats> {
    let mut found = Vec::new();
    let lines = bytes.lines().map(|l| (l, true)).chain(ops.lines().map(|l| (l, false)));
    for (line, is_bytes) in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [device, operation, value] = words[..] else { continue };
        let (Some(device), Ok(value)) = (entry(&mut found, device), value.parse()) else {
            continue;
        };
        match (operation, is_bytes) {
            ("Read", true) => device.read_bytes = value,
            ("Write", true) => device.write_bytes = value,
            ("Read", false) => device.read_ops = value,
            ("Write", false) => device.write_ops = value,
            _ => {}
        }
    }
    found
}

/// The entry of the device `8:0`, made if it is new.
fn entry<'a>(found: &'a mut Vec<IoStats>, device: &str) -> Option<&'a mut IoStats> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let at = found.iter().position(|d| (d.major, d.minor) == (major, minor));
    let at = at.unwrap_or_else(|| {
        found.push(IoStats { major, minor, ..IoStats::default() });
        found.len() - 1
    });
    found.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_from_both_interfaces() {
        let want = [
            IoStats {
                major: 8,
                read_bytes: 10,
                write_bytes: 20,
                read_ops: 1,
                write_ops: 2,
                ..IoStats::default()
            },
            IoStats { major: 253, minor: 1, write_bytes: 5, ..IoStats::default() },
        ];
        let v2 =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 wbytes=5\nnonsense\n";
        assert_eq!(traffic_v2(v2), want);
        let bytes = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n253:1 Write 5\nTotal 35\n";
        assert_eq!(traffic_v1(bytes, "8:0 Read 1\n8:0 Write 2\nTotal 3\n"), want);
        assert!(traffic_v1("", "").is_empty());
    }
}
