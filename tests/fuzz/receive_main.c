// SPDX-License-Identifier: GPL-2.0-or-later
/* Runs a target of libFuzzer's kind without libFuzzer: some seeds, one after another and mutated, are an input.
 *
 * receive_main SEEDS COUNT SEED: the same arguments give the same inputs. When something is found the input is printed. */
#define PROGRAM "receive_fuzz"
#define SUBJECT "input"
#define SEED_HEAD uint32_t length;
#define SEED_MIN NFL_MESSAGE_MIN
#define SEED_MAX 16384
#include "harness.h"

#define INPUT_MAX (4 * (SEED_MAX + 2))

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static uint8_t input[INPUT_MAX];

static void mutate(uint8_t *data, uint32_t *length)
{
	static const uint8_t interesting[] = { 0, 1, 2, 3, 4, 5, 8, 15, 16, 19, 20, 21, 127, 128, 254, 255 };
	uint32_t at = below(*length);

	switch (below(5)) {
	case 0:
		data[at] = (uint8_t)any();
		break;
	case 1:
		data[at] ^= (uint8_t)(1 << below(8));
		break;
	case 2:
		data[at] = interesting[below(ARRAY(interesting))];
		break;
	case 3:		/* where lengths and types of messages and attributes are */
		data[below(*length < 32 ? *length : 32)] = one_in(2) ? interesting[below(ARRAY(interesting))] : (uint8_t)any();
		break;
	case 4:
		*length = at ? at : 1;
		break;
	}
}

static uint32_t make(void)
{
	uint32_t used = 0;

	for (uint32_t left = 1 + below(4); left; left--) {
		const struct seed *from = seeds + below(seed_count);
		uint32_t length = from->length, announced;

		memcpy(input + used + 2, from->data, length);
		for (uint32_t changes = below(6); changes; changes--)
			mutate(input + used + 2, &length);
		announced = one_in(32) ? any() : length | (one_in(4) ? 0x8000 : 0);
		input[used] = (uint8_t)announced;
		input[used + 1] = (uint8_t)(announced >> 8);
		used += 2 + length;
	}
	return used;
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);

	for (tried_number = 0; tried_number < wanted; tried_number++) {
		uint8_t *exact;

		tried_length = make();
		tried = exact = exactly(tried_length, input);
		LLVMFuzzerTestOneInput(exact, tried_length);
		free(exact);
	}
	printf("%llu mutated inputs of the receiver, %.1f seconds\n", (unsigned long long)wanted, seconds());
	free(seeds);
	return 0;
}
