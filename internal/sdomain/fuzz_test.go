package sdomain

import (
	"bytes"
	"testing"
)

// FuzzParse: what is accepted keeps within the bounds, and does not open with keys that it was not made for.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"EncData":{"data":[{"compact_jwe":"....","tag":"a"}],"kdf":"sp108_kdf"},"SharedKeys":{"enc_shares":[` +
		`{"enc_key":"....","x5t_256":"a"},{"enc_key":"....","x5t_256":"b"}],"key_algorithm":"shamir_share","required":2},"version":2}`))
	f.Add([]byte(`{"EncData":{"data":[]},"SplitKeys":{"key_algorithm":"xor_split","keys":[{"key1":{},"key2":{}}]},"version":1}`))
	f.Add([]byte(`e30`))
	f.Fuzz(func(t *testing.T, file []byte) {
		d, err := Parse(file)
		if err != nil {
			return
		}
		if d.Required() < MinQuorum || d.Required() > MaxQuorum || len(d.Tags()) > MaxData || len(d.Thumbprints()) > 2*maxPairs {
			t.Fatalf("%d of %d, %d data", d.Required(), len(d.Thumbprints()), len(d.Tags()))
		}
		if data, err := d.Open(holders(t, []string{"wk-01", "wk-02"}, false)); err == nil {
			t.Fatalf("it opens: %d data", len(data))
		}
	})
}

// FuzzJWE: what opens under a key is what was sealed under it, letter for letter.
func FuzzJWE(f *testing.F) {
	cek := bytes.Repeat([]byte{7}, cekLen)
	good, err := sealJWE(header{Alg: algDirect, Enc: encContent}, nil, cek, make([]byte, ivLen), []byte("text"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("e30....")
	f.Fuzz(func(t *testing.T, text string) {
		j, err := parseJWE(text, maxDatumJWE)
		if err != nil {
			return
		}
		if len(j.tag) != tagLen || j.Enc != encContent {
			t.Fatalf("%+v", j)
		}
		if _, err := openDirect(text, maxDatumJWE, cek); err == nil && text != good {
			t.Fatalf("another text opens: %s", text)
		}
	})
}

// FuzzShares: two shares that combine are of one polynomial each time, and give the third.
func FuzzShares(f *testing.F) {
	f.Add([]byte{0xfb, 0x02}, []byte{0x4e, 0x04})
	f.Add([]byte{0x00, 0x02}, []byte{0x00, 0x02})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		a, err := parseShare(one, len(one)/2)
		if err != nil {
			return
		}
		b, err := parseShare(two, len(two)/2)
		if err != nil {
			return
		}
		secret, err := combine([]share{a, b})
		if err != nil {
			return
		}
		again, err := combine([]share{b, a})
		if err != nil || !bytes.Equal(secret, again) || len(secret) != len(a.values) || a.place == b.place {
			t.Fatalf("%x, then %x (%v)", secret, again, err)
		}
		for k, s := range secret {
			// The line through the secret and the first share goes through the second.
			slope := (a.values[k] + prime - uint32(s)) * inverse(a.place) % prime
			if evaluate([]uint32{uint32(s), slope}, b.place) != b.values[k] {
				t.Fatalf("byte %d: %d is not on the line", k, s)
			}
		}
	})
}

// FuzzOpenRestoreBlob: nobody makes a blob that opens who does not have the transfer key's certificate.
func FuzzOpenRestoreBlob(f *testing.F) {
	tk := transferKey(f, "exchange-2048")
	f.Add([]byte(`{"EncData":{"data":[],"kdf":"sp108_kdf"},"WrappedKey":{"enc_key":"....","x5t_256":"` + tk.certificate.Thumbprint() + `"}}`))
	f.Add([]byte(`{"EncData":{"data":[{"compact_jwe":"....","tag":"a"}]},"WrappedKey":{}}`))
	f.Fuzz(func(t *testing.T, blob []byte) {
		if data, err := OpenRestoreBlob(blob, tk); err == nil {
			t.Fatalf("it opens: %d data", len(data))
		}
	})
}

// FuzzParsePrivateKey: a key that is accepted is an RSA key that works.
func FuzzParsePrivateKey(f *testing.F) {
	for _, id := range []string{"wk-01", "wk-02", "wk-07", "wk-10"} {
		o := allOwners(f)[id]
		f.Add(read(f, vectors+o.KeyFile), o.Password)
	}
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"), "x")
	f.Fuzz(func(t *testing.T, file []byte, password string) {
		key, err := ParsePrivateKey(file, password)
		if err == nil && (key.Validate() != nil || key.N.BitLen() < minRSA) {
			t.Fatalf("an RSA key of %d bits: %v", key.N.BitLen(), key.Validate())
		}
	})
}

// FuzzParseDomainKeys: what is accepted is kept, letter for letter in meaning.
func FuzzParseDomainKeys(f *testing.F) {
	f.Add([]byte(`{"v":1,"data":[{"tag":"hsm_backup","value":"e30="}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var k DomainKeys
		if err := k.UnmarshalBinary(raw); err != nil {
			return
		}
		again, err := k.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var second DomainKeys
		if err := second.UnmarshalBinary(again); err != nil || second.ID() != k.ID() || !bytes.Equal(second.keyBackup, k.keyBackup) {
			t.Fatalf("%s is stored as %s: %v", raw, again, err)
		}
	})
}
