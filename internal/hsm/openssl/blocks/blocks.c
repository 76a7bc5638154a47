//go:build openssl && cgo

#include <stdatomic.h>
#include <stdlib.h>
#include <openssl/crypto.h>

static atomic_long held;

static void release(void *block, const char *file, int line)
{
	(void)file, (void)line;
	if (block != NULL)
		held--;
	free(block);
}

static void *allocate(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	void *block = malloc(size);
	if (block != NULL)
		held++;
	return block;
}

static void *reallocate(void *block, size_t size, const char *file, int line)
{
	if (block == NULL)
		return allocate(size, file, line);
	if (size == 0) {
		release(block, file, line);
		return NULL;
	}
	return realloc(block, size);
}

int sr_blocks_count(void) { return CRYPTO_set_mem_functions(allocate, reallocate, release); }

long sr_blocks_held(void) { return held; }
