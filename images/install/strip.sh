#!/bin/sh
# Take pip out of a base image, and make the user and the folders that pods mount on: sh images/install/strip.sh
set -eu
python=/usr/local/lib/python3.11
rm -rf /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/wheel* "$python/ensurepip" "$python/idlelib" "$python/test" \
  "$python"/site-packages/*
echo 'leti:x:10001:' >>/etc/group
echo 'leti:x:10001:10001:leti:/scratch/home:/usr/sbin/nologin' >>/etc/passwd
install -d -o 10001 -g 10001 /scratch
