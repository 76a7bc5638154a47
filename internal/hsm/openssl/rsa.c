//go:build openssl && cgo

#include "rsa.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>

// finish takes the first error, which is the reason of those after it, and empties the queue.
static sr_result finish(sr_result r, unsigned long *err)
{
	*err = ERR_peek_error();
	ERR_clear_error();
	return r;
}

sr_result sr_library_new(OSSL_LIB_CTX **library, unsigned long *err)
{
	// Neither a configuration file nor OPENSSL_CONF may put another implementation under our keys. And nothing may be torn
	// down at exit while other threads still sign.
	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL) != 1)
		return finish(SR_FAILED, err);
	OSSL_LIB_CTX *l = OSSL_LIB_CTX_new();
	if (l == NULL || OSSL_PROVIDER_load(l, "default") == NULL) {
		OSSL_LIB_CTX_free(l);
		return finish(SR_FAILED, err);
	}
	*library = l;
	return finish(SR_DONE, err);
}

sr_result sr_rsa_new(OSSL_LIB_CTX *library, const unsigned char *numbers, size_t size, EVP_PKEY **key, unsigned long *err)
{
	static const char *const names[SR_RSA_NUMBERS] = {
		[SR_RSA_N] = OSSL_PKEY_PARAM_RSA_N,
		[SR_RSA_E] = OSSL_PKEY_PARAM_RSA_E,
		[SR_RSA_D] = OSSL_PKEY_PARAM_RSA_D,
		[SR_RSA_P] = OSSL_PKEY_PARAM_RSA_FACTOR1,
		[SR_RSA_Q] = OSSL_PKEY_PARAM_RSA_FACTOR2,
		[SR_RSA_DP] = OSSL_PKEY_PARAM_RSA_EXPONENT1,
		[SR_RSA_DQ] = OSSL_PKEY_PARAM_RSA_EXPONENT2,
		[SR_RSA_QINV] = OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
	};
	BIGNUM *n[SR_RSA_NUMBERS] = {NULL};
	OSSL_PARAM *params = NULL;
	EVP_PKEY *made = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(library, "RSA", NULL);
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();

	// BN_secure_new: so that the builder, too, overwrites what it frees.
	int ok = ctx != NULL && builder != NULL;
	for (size_t i = 0; ok && i < SR_RSA_NUMBERS; i++)
		ok = (n[i] = BN_secure_new()) != NULL && BN_bin2bn(numbers + i * size, (int)size, n[i]) != NULL &&
		     OSSL_PARAM_BLD_push_BN(builder, names[i], n[i]) == 1;
	ok = ok && (params = OSSL_PARAM_BLD_to_param(builder)) != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
	     EVP_PKEY_fromdata(ctx, &made, EVP_PKEY_KEYPAIR, params) == 1;

	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(builder);
	for (int i = 0; i < SR_RSA_NUMBERS; i++)
		BN_clear_free(n[i]);
	EVP_PKEY_CTX_free(ctx);
	if (!ok)
		return finish(SR_FAILED, err);
	*key = made;
	return finish(SR_DONE, err);
}

sr_result sr_rsa_sign(OSSL_LIB_CTX *library, EVP_PKEY *key, int padding, const EVP_MD *md, const unsigned char *digest,
		size_t digest_len, unsigned char *signature, size_t *signature_len, unsigned long *err)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(library, key, NULL);
	int ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1 &&
		 (md == NULL || EVP_PKEY_CTX_set_signature_md(ctx, md) == 1) &&
		 (padding != RSA_PKCS1_PSS_PADDING || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1) &&
		 EVP_PKEY_sign(ctx, signature, signature_len, digest, digest_len) == 1;
	EVP_PKEY_CTX_free(ctx);
	return finish(ok ? SR_DONE : SR_FAILED, err);
}

sr_result sr_rsa_decrypt_oaep(OSSL_LIB_CTX *library, EVP_PKEY *key, const EVP_MD *md, const unsigned char *ciphertext,
			size_t ciphertext_len, unsigned char *plaintext, size_t *plaintext_len, unsigned long *err)
{
	sr_result r = SR_FAILED;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(library, key, NULL);
	if (ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1 &&
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 && EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) == 1 &&
	    EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1)
		r = EVP_PKEY_decrypt(ctx, plaintext, plaintext_len, ciphertext, ciphertext_len) == 1 ? SR_DONE : SR_UNDECRYPTABLE;
	EVP_PKEY_CTX_free(ctx);
	return finish(r, err);
}
