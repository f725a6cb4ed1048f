//! Limits on block devices.

use oci::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

use super::{Setting, unsupported};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Version;

/// `io.weight` (1–10000) for `blkio.weight` (10–1000).
pub(in crate::cgroup) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

const WEIGHT_REMEDY: &str = "no I/O scheduler here weighs groups: use the BFQ scheduler, or run \
                             without a weight";

pub(super) fn settings(io: &LinuxBlockIo, version: Version) -> Result<Vec<Setting>, Error> {
    let v1 = version == Version::V1;
    let mut made = Vec::new();
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        made.push(weight_setting("blockIO.weight", "", weight, v1));
    }
    let leaf = io.leaf_weight().filter(|weight| *weight != 0);
    let device_leaf = io.weight_device().iter().flatten().find_map(LinuxWeightDevice::leaf_weight);
    if let Some(weight) = leaf.or(device_leaf.filter(|weight| *weight != 0)) {
        let why = "no kernel since Linux 5.0 has leaf weights; run without it";
        return Err(unsupported("blockIO.leafWeight", weight, why));
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let prefix = format!("{}:{} ", device.major(), device.minor());
            made.push(weight_setting("blockIO.weightDevice", &prefix, weight, v1));
        }
    }
    let throttles: [(&'static str, &Option<Vec<LinuxThrottleDevice>>, &str, &str); 4] = [
        ("blockIO.throttleReadBpsDevice", io.throttle_read_bps_device(), "read_bps", "rbps"),
        ("blockIO.throttleWriteBpsDevice", io.throttle_write_bps_device(), "write_bps", "wbps"),
        ("blockIO.throttleReadIOPSDevice", io.throttle_read_iops_device(), "read_iops", "riops"),
        ("blockIO.throttleWriteIOPSDevice", io.throttle_write_iops_device(), "write_iops", "wiops"),
    ];
    for (limit, devices, old, new) in throttles {
        for d in devices.iter().flatten() {
            made.push(throttle_setting(limit, d, old, new, v1));
        }
    }
    Ok(made)
}

fn weight_setting(limit: &'static str, device: &str, weight: u16, v1: bool) -> Setting {
    let suffix = if device.is_empty() { "" } else { "_device" };
    let plain = format!("{device}{weight}");
    let setting = if v1 {
        Setting::new(limit, format!("blkio.weight{suffix}"), &plain)
            .or(format!("blkio.bfq.weight{suffix}"), plain)
    } else {
        Setting::new(limit, "io.bfq.weight", plain)
            .or("io.weight", format!("{device}{}", io_weight(weight)))
    };
    setting.remedy(WEIGHT_REMEDY)
}

fn throttle_setting(
    limit: &'static str,
    device: &LinuxThrottleDevice,
    old: &str,
    new: &str,
    v1: bool,
) -> Setting {
    let (major, minor, rate) = (device.major(), device.minor(), device.rate());
    let remedy = "the kernel needs CONFIG_BLK_DEV_THROTTLING";
    if v1 {
        let file = format!("blkio.throttle.{old}_device");
        return Setting::new(limit, file, format!("{major}:{minor} {rate}")).remedy(remedy);
    }
    // Version 1 takes 0 for no limit.
    let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
    Setting::new(limit, "io.max", format!("{major}:{minor} {new}={rate}")).remedy(remedy)
}
