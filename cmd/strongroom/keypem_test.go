package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/pkcs8"
)

// One key on secp256k1, which openssl made and wrote in all these ways. It is for tests alone.
const (
	koblitzD = "53515264" + "1f18ddfa616ddac9cbc2a4608cb8c801db79c238ac4eb4400f61a1da"

	koblitzPKCS8 = `-----BEGIN PRIVATE KEY-----
MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgU1FSZB8Y3fphbdrJy8Kk
YIy4yAHbecI4rE60QA9hodqhRANCAAQl+ouCVBSOb/6HfxPXIX2rjhxBgwRCOaIC
/G2EE/+Y/MO3xSkqv4QsduE1ojCFJnWyx9v0RfjW8gpimrYA0zjw
-----END PRIVATE KEY-----
`
	koblitzSEC1 = `-----BEGIN EC PARAMETERS-----
BgUrgQQACg==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIFNRUmQfGN36YW3aycvCpGCMuMgB23nCOKxOtEAPYaHaoAcGBSuBBAAK
oUQDQgAEJfqLglQUjm/+h38T1yF9q44cQYMEQjmiAvxthBP/mPzDt8UpKr+ELHbh
NaIwhSZ1ssfb9EX41vIKYpq2ANM48A==
-----END EC PRIVATE KEY-----
`
	koblitzPublic = `-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEJfqLglQUjm/+h38T1yF9q44cQYMEQjmi
AvxthBP/mPzDt8UpKr+ELHbhNaIwhSZ1ssfb9EX41vIKYpq2ANM48A==
-----END PUBLIC KEY-----
`
	// openssl's default: AES-256 and HMAC with SHA-256. The password is "correct".
	koblitzAES256 = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiKxdmEW48icwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEOcxiCkaP9XDSwNmmQlJWzEEgZBY
9QM/qvhbPNo1YnhvYA3FXrv3rJwTIofxqvm7eBEh5iqWeZpT/FaS6fFohAJdhwgR
uJCEq5il27MbYVmt8avJ1Bbg6IOStSnqHlV7CFtW4r84gMWRSCgrHHeFgKQ33xG6
yhs1JBrcaYQcl4gGZGRc9AePqajFEtwVPOrJvLNrz2sOg0BkrgokGE29RGNstYc=
-----END ENCRYPTED PRIVATE KEY-----
`
	// AES-128, and no word about the hash, which then is SHA-1.
	koblitzAES128 = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAjzDm169APQBgICA+gw
HQYJYIZIAWUDBAECBBDViMgED4rDr5HeSuAzctbJBIGQIG5RIFrjdAELm8N7kdq8
KQzpzOW2z5LVrcJWACmiMNiIsf/LB4D6AwV1xrRMHfk0kGfTFEFYWjSwSrCUKvJe
BL6KzzPiIymnPvgW3TqU7McBeyX6ULtTj7W0Cn/8aIIo+AvNAW48yXv287o9OSHc
cdezdrLMNEQ3QFvJW6VceINJ3lK22v6ZVps6cfY4pfL3
-----END ENCRYPTED PRIVATE KEY-----
`
	// AES-192 and SHA-512.
	koblitzAES192 = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi1CzgHwFLf1wICA+gw
DAYIKoZIhvcNAgsFADAdBglghkgBZQMEARYEEPO+fex/pwucAWrj+dcZ+6AEgZD7
pbO6BywAxluWRBvrmf2ObbjAM+1zdySClV1CHtZ7Cp+eKeLcyXtVJAwccYicYk4M
a0/n8IVV6+OuPOHKfmF7Keqn7Kv39CAV9KcFhic4iDn3gwGdKG6z7BI8dmzG1dmN
2QniaXVT/zoMt4nLR1SajyzacwwsufiY6ORX25+T4iuoT7K0O57n6im0e/G+qTg=
-----END ENCRYPTED PRIVATE KEY-----
`
	koblitz3DES = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHbME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAgG6soXsbLdLgICA+gw
DAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQIRNtS9TACf24EgYguJ2pJu0cxOOx1
ET9QH+qd4y8MLWHFnlluTBX/OtpzdCFmggxe8VC/fy7NpCHgbQIFDi+29edG/vIu
wsMxymy/3fPlAJlLNKpKYKm26i5xHzvjJBDrHtxCWp1VgVLXaSUpkgJZewJICuMG
Fuhlgm6jQElKoVVK3okVdr+0bTJrAyOKAai7yDND
-----END ENCRYPTED PRIVATE KEY-----
`
	koblitzScrypt = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAgM37UGhRjaCQICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBBK9HQmcb7dwI9k7/oLVTL5BIGQc0C+OxTZ7NIO
Dt2IM+X0HCdG/1McciKeqqoSynSA8hcuNZqtARMIgFRJ7HTQBh9a0CRcn62hFzmQ
aJvi+SgKdfl5vrwepYv/A0IS45aNdZ92KsNonVMbE7ASwr9jAgziKJUGB8+zf6yS
MDJAT33tZCZgUu4Hm44x2kfyVAgOkk9zDOkJVc6z6UMV6uce57Hg
-----END ENCRYPTED PRIVATE KEY-----
`
	koblitzPBES1 = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGpMBwGCiqGSIb3DQEMAQMwDgQINoyFpctcbLECAggABIGIDH1vOXSblgB9BXiL
fIRA8VpCaqdz53YUbvmxsriMIhT53LXjeau6XaXlrngTDEbH7DhBeUmSmC5k7re0
JxX3AkThnY/POHXm9cvIOhBM2PVj9/0Fkua56eSpZRnTOhG0voGKeG7t636SqvQU
T+uqJ5flbbX2TF10F/DPv5FB8Bsljos+uP+0FQ==
-----END ENCRYPTED PRIVATE KEY-----
`
	oldEncryption = `-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,1A09E924BB9EFBC65BF7B30D25764CF0

MPgksL4hVnrOym685GjGksGfyPovP0IeD9nPIswdcm1k4KN5ApgDHe7JxYGYsvTZ
ksvE2l60HfXMZKrRgWsiUq3bqV6Vn3XfUpQPbdy1xhnj88F6qreoovtbAaIv1xit
8P5y5M20OxWQoTYPPg2AxjcoSm/Cjm1/ad6w287kMS0=
-----END EC PRIVATE KEY-----
`
)

func TestKoblitzPEM(t *testing.T) {
	t.Parallel()
	d, err := hex.DecodeString(koblitzD)
	if err != nil {
		t.Fatal(err)
	}
	point, _ := pem.Decode([]byte(koblitzPublic))
	xy := point.Bytes[len(point.Bytes)-64:]
	want := &azkeys.JSONWebKey{Kty: new(azkeys.KeyTypeEC), Crv: new(azkeys.CurveNameP256K), D: d, X: xy[:32], Y: xy[32:]}
	for name, text := range map[string]string{
		"PKCS#8": koblitzPKCS8, "SEC 1": koblitzSEC1, "AES-256": koblitzAES256, "AES-192": koblitzAES192, "AES-128": koblitzAES128, "scrypt": koblitzScrypt, "3DES": koblitz3DES,
		"after other blocks": koblitzPublic + "text\n" + koblitzPKCS8,
	} {
		key, err := parsePrivatePEM([]byte(text), []byte("correct"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := privateJWK(key)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		der, err := marshalPKCS8(key)
		if block, _ := pem.Decode([]byte(koblitzPKCS8)); err != nil || !bytes.Equal(der, block.Bytes) {
			t.Errorf("%s: written as %x, %v", name, der, err)
		}
		if public, err := marshalPublic(got); err != nil || !bytes.Equal(public, point.Bytes) {
			t.Errorf("%s: public part written as %x, %v", name, public, err)
		}
	}
}

func TestPEMRefused(t *testing.T) {
	t.Parallel()
	otherPoint := strings.Replace(koblitzSEC1, "Jfq", "Jfr", 1)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, odd := newRSAKey(t, 1024), newRSAKey(t, 2056)
	good := newRSAKey(t, 2048)
	three, otherD, otherDP := membersOf(good), membersOf(good), membersOf(good)
	three.E = big.NewInt(3)
	otherD.D = new(big.Int).Add(good.D, big.NewInt(2))
	otherDP.DP = otherDP.DQ
	for _, tc := range []struct{ name, text, password, want string }{
		{"nothing", "", "", "the input is empty"},
		{"no PEM", "0\x82", "", "no PEM at all"},
		{"public key", koblitzPublic, "", "PEM of the type PUBLIC KEY"},
		{"wrong password", koblitzAES256, "incorrect", "password of the PEM is wrong"},
		{"no password", koblitzAES256, "", "--pem-password"},
		{"PBES1", koblitzPBES1, "correct", "openssl pkey -in FILE"},
		{"old PEM", oldEncryption, "correct", "openssl pkey"},
		{"OpenSSH", pemOf("OPENSSH PRIVATE KEY", []byte("x")), "", "ssh-keygen -p"},
		{"another public part", otherPoint, "", "public part is not that of its private one"},
		{"Ed25519", pkcs8Of(t, other), "", "the key is neither an RSA nor an EC key"},
		{"P-224", pkcs8Of(t, p224), "", "on the curve 1.3.132.0.33"},
		{"RSA of 1024 bits", pkcs8Of(t, small), "", "has 1024 bits"},
		{"RSA of 2056 bits", pkcs8Of(t, odd), "", "has 2056 bits"},
		{"RSA with the exponent 3", pemOf("RSA PRIVATE KEY", asDER(t, three)), "", "exponent 3"},
		{"RSA with another dP", pemOf("RSA PRIVATE KEY", asDER(t, otherDP)), "", "RSA key is wrong"},
		{"RSA with another d", pemOf("RSA PRIVATE KEY", asDER(t, otherD)), "", "RSA key is wrong"},
		{"RSA with something behind", pemOf("RSA PRIVATE KEY", append(asDER(t, membersOf(good)), 0)), "", "not that of PKCS#1"},
		{"P-256 with another's public part", pemOf("EC PRIVATE KEY", mixedHalves(t)), "", "public part is not that of its private one"},
		{"not PKCS#8", pemOf("PRIVATE KEY", []byte("x")), "", "not in PKCS#8"},
		{"not SEC 1", pemOf("EC PRIVATE KEY", []byte("x")), "", "not that of SEC 1"},
		{"not encrypted PKCS#8", pemOf("ENCRYPTED PRIVATE KEY", []byte("x")), "p", "not in a form of encrypted PKCS#8"},
	} {
		key, err := parsePrivatePEM([]byte(tc.text), []byte(tc.password))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %T, %v", tc.name, key, err)
		}
	}
}

// With every wrong password the error is the same, also where the padding happens to look right.
func TestWrongPasswords(t *testing.T) {
	t.Parallel()
	for i := range 1000 {
		if key, err := parsePrivatePEM([]byte(koblitzAES128), big.NewInt(int64(i)).Append(nil, 10)); err != errWrongPassword {
			t.Fatalf("%d: %T, %v", i, key, err)
		}
	}
}

func TestECNumbers(t *testing.T) {
	t.Parallel()
	for curve, order := range map[pkcs8.Curve]string{
		pkcs8.P256K: "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
		pkcs8.P256:  "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
	} {
		n, _ := new(big.Int).SetString(order, 16)
		for name, d := range map[string][]byte{"zero": make([]byte, 32), "the order": n.Bytes(), "too long": bytes.Repeat([]byte{1}, 33), "none": {}} {
			if key, err := newPrivateKey(&pkcs8.Key{Curve: curve, D: d}, nil); err == nil {
				t.Errorf("%s, %s: %T", curve, name, key)
			}
		}
		if _, err := newPrivateKey(&pkcs8.Key{Curve: curve, D: []byte{1}}, nil); err != nil {
			t.Error(curve, err)
		}
	}
}

func newRSAKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rsaMembers are a key in PKCS#1.
type rsaMembers struct {
	Version                   int
	N, E, D, P, Q, DP, DQ, QI *big.Int
}

func membersOf(key *rsa.PrivateKey) rsaMembers {
	pre := key.Precomputed
	return rsaMembers{0, key.N, big.NewInt(int64(key.E)), key.D, key.Primes[0], key.Primes[1], pre.Dp, pre.Dq, pre.Qinv}
}

func asDER(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// mixedHalves is the private half of one key on P-256 with the public one of another, in SEC 1. crypto/x509 would not see it.
func mixedHalves(t *testing.T) []byte {
	t.Helper()
	var sec1 [2][]byte
	for i := range sec1 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if sec1[i], err = x509.MarshalECPrivateKey(key); err != nil {
			t.Fatal(err)
		}
	}
	const point = 65 // bytes, at the end
	return append(sec1[0][:len(sec1[0])-point], sec1[1][len(sec1[1])-point:]...)
}

func pemOf(typ string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
}

func pkcs8Of(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PRIVATE KEY", der)
}

func TestRSAPEM(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{pkcs8Of(t, key), pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))} {
		parsed, err := parsePrivatePEM([]byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		k, err := privateJWK(parsed)
		if err != nil {
			t.Fatal(err)
		}
		if *k.Kty != azkeys.KeyTypeRSA || k.Crv != nil || k.K != nil || k.T != nil || k.X != nil || k.Y != nil {
			t.Errorf("%v", *k.Kty)
		}
		// Put together again, the members are the key.
		number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
		again := &rsa.PrivateKey{
			PublicKey: rsa.PublicKey{N: number(k.N), E: int(number(k.E).Int64())},
			D:         number(k.D), Primes: []*big.Int{number(k.P), number(k.Q)},
		}
		if err := again.Validate(); err != nil || !again.Equal(key) {
			t.Error("another key: ", err)
		}
		one := big.NewInt(1)
		p, q := number(k.P), number(k.Q)
		if number(k.DP).Cmp(new(big.Int).Mod(again.D, new(big.Int).Sub(p, one))) != 0 ||
			number(k.DQ).Cmp(new(big.Int).Mod(again.D, new(big.Int).Sub(q, one))) != 0 ||
			number(k.QI).Cmp(new(big.Int).ModInverse(q, p)) != 0 {
			t.Error("dp, dq or qi is not what follows from d, p and q")
		}
		public, err := marshalPublic(k)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := x509.MarshalPKIXPublicKey(key.Public()); err != nil || !bytes.Equal(public, want) {
			t.Errorf("public part: %x", public)
		}
	}
}

func TestECPEM(t *testing.T) {
	t.Parallel()
	for name, curve := range curves() {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		sec1, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		size := (curve.Params().BitSize + 7) / 8
		for _, text := range []string{pkcs8Of(t, key), pemOf("EC PRIVATE KEY", sec1)} {
			parsed, err := parsePrivatePEM([]byte(text), nil)
			if err != nil {
				t.Fatal(err)
			}
			k, err := privateJWK(parsed)
			if err != nil {
				t.Fatal(err)
			}
			if *k.Crv != name || len(k.D) != size || len(k.X) != size || len(k.Y) != size {
				t.Errorf("%s: %s, %d, %d, %d bytes", name, *k.Crv, len(k.D), len(k.X), len(k.Y))
			}
			if again, err := ecdsa.ParseRawPrivateKey(curve, k.D); err != nil || !again.Equal(key) {
				t.Errorf("%s: another key: %v", name, err)
			}
			// Services may leave out zeros in front.
			k.X, k.Y = bytes.TrimLeft(k.X, "\x00"), bytes.TrimLeft(k.Y, "\x00")
			public, err := marshalPublic(k)
			if want, _ := x509.MarshalPKIXPublicKey(key.Public()); err != nil || !bytes.Equal(public, want) {
				t.Errorf("%s: public part: %x, %v", name, public, err)
			}
		}
	}
}

func TestPublicRefused(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]*azkeys.JSONWebKey{
		"none":            nil,
		"no type":         {},
		"oct":             {Kty: new(azkeys.KeyTypeOct)},
		"RSA without n":   {Kty: new(azkeys.KeyTypeRSA), E: []byte{1, 0, 1}},
		"RSA without e":   {Kty: new(azkeys.KeyTypeRSA), N: []byte{1, 0, 1}},
		"RSA, huge e":     {Kty: new(azkeys.KeyTypeRSA), N: []byte{1, 0, 1}, E: make([]byte, 9)},
		"EC, no curve":    {Kty: new(azkeys.KeyTypeEC)},
		"EC, other curve": {Kty: new(azkeys.KeyTypeEC), Crv: new(azkeys.CurveName("P-1"))},
		"not on P-256":    {Kty: new(azkeys.KeyTypeECHSM), Crv: new(azkeys.CurveNameP256), X: []byte{1}, Y: []byte{1}},
		"not on P-256K":   {Kty: new(azkeys.KeyTypeEC), Crv: new(azkeys.CurveNameP256K), X: []byte{1}, Y: []byte{1}},
		"too long":        {Kty: new(azkeys.KeyTypeEC), Crv: new(azkeys.CurveNameP256), X: make([]byte, 33), Y: make([]byte, 32)},
	} {
		if der, err := marshalPublic(k); err == nil {
			t.Errorf("%s: %x", name, der)
		}
	}
}

// Nothing that is called PEM makes the program fall over, and what is taken is a key that can be written again.
func FuzzPrivatePEM(f *testing.F) {
	for _, text := range []string{koblitzPKCS8, koblitzSEC1, koblitzAES128, koblitz3DES, oldEncryption, koblitzPublic} {
		block, _ := pem.Decode([]byte(text))
		f.Add(block.Type, block.Bytes)
	}
	f.Fuzz(func(t *testing.T, typ string, der []byte) {
		key, err := parsePrivatePEM([]byte(pemOf(typ, der)), []byte("correct"))
		if err != nil {
			return
		}
		k, err := privateJWK(key)
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		if _, err := marshalPublic(k); err != nil {
			t.Errorf("%T: %v", key, err)
		}
		written, err := marshalPKCS8(key)
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		again, err := parsePrivatePEM([]byte(pemOf("PRIVATE KEY", written)), nil)
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		if other, err := privateJWK(again); err != nil || !cmp.Equal(k, other) {
			t.Errorf("%T became another key: %v", key, err)
		}
	})
}
