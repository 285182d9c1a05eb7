// SPDX-License-Identifier: GPL-2.0-or-later
/* Opening and closing in one call each: see descriptor.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <linux/netlink.h>

#include "descriptor.h"

static const char own_namespace[] = "/proc/thread-self/ns/net";

static int own(struct nfl_descriptor *owner, int fd)
{
	owner->fd = fd;
	return fd < 0 ? -errno : 0;
}

void nfl_descriptor_close(struct nfl_descriptor *owner)
{
	int fd = __atomic_exchange_n(&owner->fd, -1, __ATOMIC_SEQ_CST);

	if (fd >= 0)
		close(fd);
}

int nfl_descriptor_open(struct nfl_descriptor *owner, int directory, const char *path, int flags)
{
	return own(owner, openat(directory, path, flags | O_CLOEXEC, 0600));
}

int nfl_descriptor_event(struct nfl_descriptor *owner)
{
	return own(owner, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

/* For requests that answer with a descriptor. */
int nfl_descriptor_ioctl(struct nfl_descriptor *owner, int fd, unsigned long request)
{
	return own(owner, ioctl(fd, request));
}

int nfl_descriptor_watch(struct nfl_descriptor *owner, const char *path, uint32_t events)
{
	int error;

	if (own(owner, inotify_init1(IN_CLOEXEC | IN_NONBLOCK)))
		return -errno;
	if (inotify_add_watch(owner->fd, path, events) >= 0)
		return 0;
	error = -errno;
	nfl_descriptor_close(owner);
	return error;
}

int nfl_namespace_open(struct nfl_descriptor *owner, const char *path)
{
	struct nfl_descriptor place;
	struct stat found, ours;
	char through[32];
	int result;

	result = own(&place, open(path, O_PATH | O_CLOEXEC));
	if (result)
		return result;
	if (fstat(place.fd, &found) || stat(own_namespace, &ours)) {
		result = -errno;
	} else if (found.st_dev != ours.st_dev) {
		result = -EINVAL;
	} else {
		snprintf(through, sizeof(through), "/proc/self/fd/%d", place.fd);
		result = own(owner, open(through, O_RDONLY | O_CLOEXEC));
	}
	nfl_descriptor_close(&place);
	return result;
}

int nfl_visit_begin(struct nfl_visit *visit, int netns)
{
	int result = own(&visit->home, open(own_namespace, O_RDONLY | O_CLOEXEC));

	if (result)
		return result;
	/* Entering one's own namespace takes what coming back takes. */
	if (setns(visit->home.fd, CLONE_NEWNET) || setns(netns, CLONE_NEWNET)) {
		result = -errno;
		nfl_descriptor_close(&visit->home);
		return result;
	}
	visit->away = 1;
	return 0;
}

void nfl_visit_end(struct nfl_visit *visit)
{
	if (visit->away)
		setns(visit->home.fd, CLONE_NEWNET);
	visit->away = 0;
	nfl_descriptor_close(&visit->home);
}

int nfl_netlink_open(struct nfl_descriptor *owner, int bus, int netns, int *entered)
{
	struct nfl_visit visit = {{-1}, 0};
	int result = netns < 0 ? 0 : nfl_visit_begin(&visit, netns);

	*entered = !result;
	if (result)
		return result;
	result = own(owner, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, bus));
	nfl_visit_end(&visit);
	return result;
}

int nfl_netlink_bind(int fd, uint32_t groups, uint32_t *port)
{
	struct sockaddr_nl address;
	socklen_t size = sizeof(address);

	memset(&address, 0, sizeof(address));
	address.nl_family = AF_NETLINK;
	address.nl_groups = groups;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(fd, (struct sockaddr *)&address, &size))
		return -errno;
	*port = address.nl_pid;
	return 0;
}

int nfl_netlink_connect(int fd)
{
	struct sockaddr_nl address;

	memset(&address, 0, sizeof(address));
	address.nl_family = AF_NETLINK;
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
}

int64_t nfl_netlink_receive(int fd, void *buffer, size_t size, uint64_t *foreign)
{
	struct sockaddr_nl from;
	ssize_t got;

	for (;;) {
		socklen_t length = sizeof(from);

		memset(&from, 0, sizeof(from));
		got = recvfrom(fd, buffer, size, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (from.nl_family != AF_NETLINK || !from.nl_pid)
			return got;
		++*foreign;
	}
}
