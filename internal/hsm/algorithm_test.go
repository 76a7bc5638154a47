package hsm

import "testing"

func TestCheckTexts(t *testing.T) {
	t.Parallel()
	oct128, ec := Spec{Type: Oct, Bits: 128}, Spec{Type: EC, Curve: P256}
	for _, v := range []struct {
		alg  Algorithm
		use  Use
		spec Spec
		want string
	}{
		{"rs256", Signature, Spec{Type: RSA, Bits: 2048}, `The algorithm "rs256" is unknown.`},
		{"", Signature, ec, `The algorithm "" is unknown.`},
		{RS256, Encryption, Spec{Type: RSA, Bits: 2048}, "The algorithm RS256 is for signatures, not for encryption."},
		{A128KW, Encryption, oct128, "The algorithm A128KW is for wrapping keys, not for encryption."},
		{RSAOAEP, Signature, ec, "The algorithm RSA-OAEP is for encryption and wrapping keys, not for signatures."},
		{RS256, Signature, ec, "The algorithm RS256 is for an RSA key, not for an EC key on P-256."},
		{ES384, Signature, ec, "The algorithm ES384 is for an EC key on P-384, not for an EC key on P-256."},
		{A256GCM, Wrapping, oct128, "The algorithm A256GCM is for an oct key of 256 bits, not for an oct key of 128 bits."},
		{HS256, Signature, oct128, "The algorithm HS256 is for an oct key of at least 256 bits, not for an oct key of 128 bits."},
		{CKMAESKeyWrap, Wrapping, Spec{Type: Oct, Bits: 512},
			"The algorithm CKM_AES_KEY_WRAP is for an oct key of 128, 192 or 256 bits, not for an oct key of 512 bits."},
		{ES256, Signature, Spec{}, "The algorithm ES256 is for an EC key on P-256, not for a key of an unknown type."},
	} {
		if err := Check(v.alg, v.use, v.spec); err == nil || err.Error() != v.want {
			t.Errorf("%s:\n%v; want\n%s", v.alg, err, v.want)
		}
	}
}

func TestAlgorithmTable(t *testing.T) {
	t.Parallel()
	for name, a := range algorithms {
		if a.name != name || a.uses == 0 || a.scheme == 0 || a.hash != 0 && !a.hash.Available() {
			t.Errorf("%s: %+v", name, a)
		}
		if (a.keyType == EC) != (a.curve != "") || a.keyType != Oct && a.bits != 0 {
			t.Errorf("%s is for the type %s, %d bits, %q", name, a.keyType, a.bits, a.curve)
		}
	}
}

// Every request is checked, and most are right.
func TestCheckAllocates(t *testing.T) {
	spec := Spec{Type: RSA, Bits: 2048}
	if n := testing.AllocsPerRun(100, func() {
		if err := Check(RS256, Signature, spec); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
