/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bpf(2) without libbpf: one function per command, each returning 0 or -errno. What is opened goes to its owner:
 * descriptor.h.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */

/* What the kernel knows of a program or a map. */
struct nfl_bpf_program_info {
	uint32_t type, id, jited_bytes;
	uint32_t maps;			/* how many it uses; the first 64 of them: */
	uint32_t map_ids[64];
	uint64_t run_ns, runs;		/* since the statistics were first switched on */
	char name[16];
};

struct nfl_bpf_map_info {
	uint32_t type, id, key_size, value_size, max_entries, flags;
	char name[16];
};

/* A run of a program by hand: `data` of `size` bytes goes in, `repeat` times. */
struct nfl_bpf_run {
	const void *data;
	uint32_t size, repeat;
	uint32_t result, duration_ns;	/* what it returned last; an average run */
};

int nfl_bpf_map_create(struct nfl_descriptor *owner, uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t max_entries,
		       uint32_t flags, const char *name);
int nfl_bpf_map_lookup(int map, const void *key, void *value);
int nfl_bpf_map_update(int map, const void *key, const void *value, uint64_t flags);
int nfl_bpf_map_delete(int map, const void *key);
int nfl_bpf_map_freeze(int map);

/* Put `count` keys and values, each behind the other, into the map. */
int nfl_bpf_map_fill(int map, const uint8_t *keys, uint32_t key_size, const uint8_t *values, uint32_t value_size,
		     uint32_t count);

/* Copy at most `room` entries out; how many. A map that changes meanwhile may give some twice and others not. */
int nfl_bpf_map_dump(int map, uint8_t *keys, uint32_t key_size, uint8_t *values, uint32_t value_size, uint32_t room);

/* `log` may be NULL; else the verifier writes why into its `log_size` bytes. */
int nfl_bpf_program_load(struct nfl_descriptor *owner, uint32_t type, const void *code, uint32_t instructions,
			 const char *license, const char *name, char *log, uint32_t log_size);
int nfl_bpf_program_run(int program, struct nfl_bpf_run *run);
int nfl_bpf_program_info(int program, struct nfl_bpf_program_info *info);
int nfl_bpf_map_info(int map, struct nfl_bpf_map_info *info);
int nfl_bpf_map_by_id(struct nfl_descriptor *owner, uint32_t id);

int nfl_bpf_pin(int fd, const char *path);
int nfl_bpf_pinned(struct nfl_descriptor *owner, const char *path);

/* Let the kernel count runs and their time for as long as the descriptor is open. */
int nfl_bpf_enable_statistics(struct nfl_descriptor *owner);
