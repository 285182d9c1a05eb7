// SPDX-License-Identifier: GPL-2.0-or-later
/* Columns as a stream of Arrow's C interface: arrays, owned by whoever made them. */
#include <stdint.h>
#include <string.h>
#include "arrowstream.h"

static void release_schema(struct ArrowSchema *schema)
{
	schema->release = 0;
}

static void release_array(struct ArrowArray *array)
{
	array->release = 0;
}

static void release_stream(struct ArrowArrayStream *stream)
{
	stream->release = 0;
}

static int get_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out)
{
	const struct nfl_arrow *table = stream->private_data;

	*out = table->schema;
	out->release = release_schema;
	for (int64_t i = 0; i < out->n_children; i++)
		out->children[i]->release = release_schema;
	return 0;
}

static int get_next(struct ArrowArrayStream *stream, struct ArrowArray *out)
{
	struct nfl_arrow *table = stream->private_data;

	if (table->next == table->count) {
		memset(out, 0, sizeof(*out));	/* released: the end */
		return 0;
	}
	*out = *table->arrays[table->next++];
	out->release = release_array;
	for (int64_t i = 0; i < out->n_children; i++)
		out->children[i]->release = release_array;
	return 0;
}

static const char *get_last_error(struct ArrowArrayStream *stream)
{
	(void)stream;
	return 0;
}

void nfl_arrow_stream(struct ArrowArrayStream *stream, struct nfl_arrow *table)
{
	table->next = 0;
	stream->get_schema = get_schema;
	stream->get_next = get_next;
	stream->get_last_error = get_last_error;
	stream->release = release_stream;
	stream->private_data = table;
}
