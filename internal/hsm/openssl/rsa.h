// What Go calls. Each function does one whole step on the thread it is called on and leaves that thread's queue of errors
// empty: Go moves goroutines between threads, so an error left behind would be found by somebody else.

#ifndef STRONGROOM_RSA_H
#define STRONGROOM_RSA_H

#include <stddef.h>
#include <openssl/evp.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "OpenSSL 3.0 or newer is needed"
#endif

// The numbers of a key, in this order, each as long as the modulus and big-endian.
enum { SR_RSA_N, SR_RSA_E, SR_RSA_D, SR_RSA_P, SR_RSA_Q, SR_RSA_DP, SR_RSA_DQ, SR_RSA_QINV, SR_RSA_NUMBERS };

// A result of a step. With SR_FAILED, *err is OpenSSL's code of the reason.
typedef enum { SR_DONE, SR_FAILED, SR_UNDECRYPTABLE } sr_result;

// sr_library_new makes a library context of our own.
sr_result sr_library_new(OSSL_LIB_CTX **library, unsigned long *err);

// sr_rsa_new makes a key of numbers, which it copies.
sr_result sr_rsa_new(OSSL_LIB_CTX *library, const unsigned char *numbers, size_t size, EVP_PKEY **key, unsigned long *err);

// sr_rsa_sign signs a digest, or, if md is NULL and the padding is PKCS#1's, the bytes as they are. signature has the length
// of the modulus, *signature_len.
sr_result sr_rsa_sign(OSSL_LIB_CTX *library, EVP_PKEY *key, int padding, const EVP_MD *md, const unsigned char *digest,
		size_t digest_len, unsigned char *signature, size_t *signature_len, unsigned long *err);

// sr_rsa_decrypt_oaep decrypts with md in OAEP and MGF1 and no label. plaintext has the length of the modulus, *plaintext_len.
sr_result sr_rsa_decrypt_oaep(OSSL_LIB_CTX *library, EVP_PKEY *key, const EVP_MD *md, const unsigned char *ciphertext,
			size_t ciphertext_len, unsigned char *plaintext, size_t *plaintext_len, unsigned long *err);

#endif
