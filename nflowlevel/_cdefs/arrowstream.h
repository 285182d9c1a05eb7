/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Arrow's C data interface and C stream interface (arrow.apache.org/docs/format/CDataInterface.html): how columns are handed to
 * another library in the same process. Names and layout are those of the specification.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

struct ArrowSchema {
	const char *format;
	const char *name;
	const char *metadata;
	int64_t flags;
	int64_t n_children;
	struct ArrowSchema **children;
	struct ArrowSchema *dictionary;
	void (*release)(struct ArrowSchema *);
	void *private_data;
};

struct ArrowArray {
	int64_t length;
	int64_t null_count;
	int64_t offset;
	int64_t n_buffers;
	int64_t n_children;
	const void **buffers;
	struct ArrowArray **children;
	struct ArrowArray *dictionary;
	void (*release)(struct ArrowArray *);
	void *private_data;
};

struct ArrowArrayStream {
	int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
	int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
	const char *(*get_last_error)(struct ArrowArrayStream *);
	void (*release)(struct ArrowArrayStream *);
	void *private_data;
};

/* One table: a schema, and arrays with a child for each column. Its owner keeps it, and all that it points to, for as long as
 * anybody may read from a stream of it. One stream of it is read at a time. */
struct nfl_arrow {
	struct ArrowSchema schema;
	struct ArrowArray **arrays;
	uint32_t count;
	uint32_t next;			/* the array that is given next */
};

/* Make a stream that gives the arrays of `table`. Nothing is copied, and releasing frees nothing. */
void nfl_arrow_stream(struct ArrowArrayStream *stream, struct nfl_arrow *table);
