#!/bin/busybox sh
# The first program of the machine: finds its disks and hands over to Debian's userland.
# On any failure the kernel loses its first process, panics, and so ends the machine.
set -e
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /host
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
mount -t ext4 /dev/vda /host
tar -xf /dev/vdb -C /host
for kept in proc sys dev; do
    mount --move "/$kept" "/host/$kept"
done
exec switch_root /host /bin/sh /machine/main.sh
