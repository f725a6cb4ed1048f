//! Limits on block devices as the runtime specification has them.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use oci::runtime::{
    LinuxBlockIo, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};

use crate::error::{Doing as _, Error, Result};
use crate::settings::{Limits, Throttled};

/// What a weight may be, as in Docker; 0 is none.
const WEIGHT: RangeInclusive<u16> = 10..=1000;

/// The limits on block devices, if there are any.
pub(super) fn block_io(limits: &Limits) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    if let Some(weight) = limits.blkio_weight.filter(|weight| *weight != 0) {
        if !WEIGHT.contains(&weight) {
            return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
        }
        io.set_weight(Some(weight));
    }
    let weights = limits.blkio_weight_devices.iter().map(|(path, weight)| weigh(path, *weight));
    io.set_weight_device(given(weights.collect::<Result<Vec<_>>>()?));
    let throttles = |of: Throttled| {
        let of_these = limits.blkio_throttles.iter().filter(|throttle| throttle.of == of);
        let made = of_these.map(|throttle| limit(&throttle.device, throttle.rate));
        made.collect::<Result<Vec<_>>>().map(given)
    };
    io.set_throttle_read_bps_device(throttles(Throttled::ReadBytes)?);
    io.set_throttle_write_bps_device(throttles(Throttled::WriteBytes)?);
    io.set_throttle_read_iops_device(throttles(Throttled::Reads)?);
    io.set_throttle_write_iops_device(throttles(Throttled::Writes)?);
    Ok(Some(io).filter(|io| *io != LinuxBlockIo::default()))
}

fn given<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn weigh(path: &Path, weight: u16) -> Result<LinuxWeightDevice> {
    let (major, minor) = numbers(path)?;
    let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(weight);
    device.build().map_err(|error| Error::invalid(error.to_string()))
}

fn limit(path: &Path, rate: u64) -> Result<LinuxThrottleDevice> {
    let (major, minor) = numbers(path)?;
    let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate);
    device.build().map_err(|error| Error::invalid(error.to_string()))
}

/// The numbers of the block device at `path`.
fn numbers(path: &Path) -> Result<(i64, i64)> {
    let meta = fs::metadata(path).doing(|| format!("look at device {}", path.display()))?;
    if !meta.file_type().is_block_device() {
        return Err(Error::invalid(format!("{} is not a block device", path.display()))
            .hint("`lsblk -p` lists those of this machine"));
    }
    let device = meta.rdev();
    Ok((rustix::fs::major(device).into(), rustix::fs::minor(device).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Throttle;

    #[test]
    fn weights_have_a_range_and_devices_are_block_devices() {
        let weight = |weight| Limits { blkio_weight: Some(weight), ..Limits::default() };
        assert!(block_io(&weight(9)).is_err());
        assert!(block_io(&weight(1001)).is_err());
        assert_eq!(block_io(&weight(0)).unwrap(), None);
        assert_eq!(block_io(&weight(10)).unwrap().unwrap().weight(), Some(10));
        let throttle = Throttle { device: "/dev/null".into(), of: Throttled::Reads, rate: 1 };
        let limits = Limits { blkio_throttles: vec![throttle], ..Limits::default() };
        assert!(block_io(&limits).unwrap_err().to_string().contains("not a block device"));
    }
}
