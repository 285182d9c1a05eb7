// SPDX-License-Identifier: GPL-2.0-or-later
/* bpf(2), which the C library does not wrap: each function fills the members of union bpf_attr that its command reads
 * (include/uapi/linux/bpf.h) and leaves the others zero, as the kernel demands. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <linux/bpf.h>

#include "descriptor.h"
#include "bpf.h"

#define ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))

static int call(enum bpf_cmd command, union bpf_attr *attr)
{
	long result = syscall(__NR_bpf, command, attr, sizeof(*attr));

	return result < 0 ? -errno : (int)result;
}

/* A command whose result is a descriptor. */
static int open_by(struct nfl_descriptor *owner, enum bpf_cmd command, union bpf_attr *attr)
{
	int result = call(command, attr);

	if (result < 0)
		return result;
	owner->fd = result;
	return 0;
}

static void set_name(char *to, const char *name)
{
	memcpy(to, name, strnlen(name, BPF_OBJ_NAME_LEN - 1));
}

int nfl_bpf_map_create(struct nfl_descriptor *owner, uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t max_entries,
		       uint32_t flags, const char *name)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = type;
	attr.key_size = key_size;
	attr.value_size = value_size;
	attr.max_entries = max_entries;
	attr.map_flags = flags;
	set_name(attr.map_name, name);
	return open_by(owner, BPF_MAP_CREATE, &attr);
}

static int element(enum bpf_cmd command, int map, const void *key, const void *value, uint64_t flags)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)map;
	attr.key = ADDRESS(key);
	attr.value = ADDRESS(value);	/* with BPF_MAP_GET_NEXT_KEY it is next_key */
	attr.flags = flags;
	return call(command, &attr);
}

int nfl_bpf_map_lookup(int map, const void *key, void *value)
{
	return element(BPF_MAP_LOOKUP_ELEM, map, key, value, 0);
}

int nfl_bpf_map_update(int map, const void *key, const void *value, uint64_t flags)
{
	return element(BPF_MAP_UPDATE_ELEM, map, key, value, flags);
}

int nfl_bpf_map_delete(int map, const void *key)
{
	return element(BPF_MAP_DELETE_ELEM, map, key, NULL, 0);
}

int nfl_bpf_map_freeze(int map)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)map;
	return call(BPF_MAP_FREEZE, &attr);
}

int nfl_bpf_map_fill(int map, const uint8_t *keys, uint32_t key_size, const uint8_t *values, uint32_t value_size,
		     uint32_t count)
{
	int result = 0;

	for (uint32_t i = 0; i < count && !result; i++)
		result = nfl_bpf_map_update(map, keys + (size_t)i * key_size, values + (size_t)i * value_size, BPF_ANY);
	return result;
}

int nfl_bpf_map_dump(int map, uint8_t *keys, uint32_t key_size, uint8_t *values, uint32_t value_size, uint32_t room)
{
	const uint8_t *previous = NULL;
	uint32_t count = 0;
	int result = 0;

	while (count < room) {
		uint8_t *key = keys + (size_t)count * key_size;

		result = element(BPF_MAP_GET_NEXT_KEY, map, previous, key, 0);
		if (result)
			break;
		previous = key;
		result = nfl_bpf_map_lookup(map, key, values + (size_t)count * value_size);
		if (!result)
			count++;
		else if (result != -ENOENT)	/* it was removed just now: its key still leads on, and is written over */
			break;
	}
	return result && result != -ENOENT ? result : (int)count;
}

int nfl_bpf_program_load(struct nfl_descriptor *owner, uint32_t type, const void *code, uint32_t instructions,
			 const char *license, const char *name, char *log, uint32_t log_size)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = type;
	attr.insns = ADDRESS(code);
	attr.insn_cnt = instructions;
	attr.license = ADDRESS(license);
	if (log) {
		attr.log_buf = ADDRESS(log);
		attr.log_size = log_size;
		attr.log_level = 1;
	}
	set_name(attr.prog_name, name);
	return open_by(owner, BPF_PROG_LOAD, &attr);
}

int nfl_bpf_program_run(int program, struct nfl_bpf_run *run)
{
	union bpf_attr attr;
	int result;

	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = (uint32_t)program;
	attr.test.data_in = ADDRESS(run->data);
	attr.test.data_size_in = run->size;
	attr.test.repeat = run->repeat;
	result = call(BPF_PROG_TEST_RUN, &attr);
	run->result = attr.test.retval;
	run->duration_ns = attr.test.duration;
	return result;
}

static int info_of(int fd, void *info, uint32_t size)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info_len = size;
	attr.info.info = ADDRESS(info);
	return call(BPF_OBJ_GET_INFO_BY_FD, &attr);
}

int nfl_bpf_program_info(int program, struct nfl_bpf_program_info *info)
{
	struct bpf_prog_info known;
	int result;

	memset(&known, 0, sizeof(known));
	memset(info, 0, sizeof(*info));
	known.map_ids = ADDRESS(info->map_ids);
	known.nr_map_ids = sizeof(info->map_ids) / sizeof(*info->map_ids);
	result = info_of(program, &known, sizeof(known));
	info->type = known.type;
	info->id = known.id;
	info->jited_bytes = known.jited_prog_len;
	info->maps = known.nr_map_ids;
	info->run_ns = known.run_time_ns;
	info->runs = known.run_cnt;
	set_name(info->name, known.name);
	return result;
}

int nfl_bpf_map_info(int map, struct nfl_bpf_map_info *info)
{
	struct bpf_map_info known;
	int result;

	memset(&known, 0, sizeof(known));
	memset(info, 0, sizeof(*info));
	result = info_of(map, &known, sizeof(known));
	info->type = known.type;
	info->id = known.id;
	info->key_size = known.key_size;
	info->value_size = known.value_size;
	info->max_entries = known.max_entries;
	info->flags = known.map_flags;
	set_name(info->name, known.name);
	return result;
}

int nfl_bpf_map_by_id(struct nfl_descriptor *owner, uint32_t id)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_id = id;
	return open_by(owner, BPF_MAP_GET_FD_BY_ID, &attr);
}

int nfl_bpf_pin(int fd, const char *path)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.pathname = ADDRESS(path);
	attr.bpf_fd = (uint32_t)fd;
	return call(BPF_OBJ_PIN, &attr);
}

int nfl_bpf_pinned(struct nfl_descriptor *owner, const char *path)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.pathname = ADDRESS(path);
	return open_by(owner, BPF_OBJ_GET, &attr);
}

int nfl_bpf_enable_statistics(struct nfl_descriptor *owner)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.enable_stats.type = BPF_STATS_RUN_TIME;
	return open_by(owner, BPF_ENABLE_STATS, &attr);
}
