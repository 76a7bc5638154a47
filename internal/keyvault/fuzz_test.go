package keyvault

import (
	"errors"
	"testing"
)

// FuzzRestore feeds blobs to a restore: all but the one that was made here are refused as a bad parameter, and leave
// nothing behind.
func FuzzRestore(f *testing.F) {
	b := newBench(f)
	b.set(f, "vault", "s", "value")
	blob, err := b.BackupSecret(f.Context(), admin, "vault", "s")
	if err != nil {
		f.Fatal(err)
	}
	b.vault(f, "target", 7, false)
	f.Add(blob)
	f.Add(blob[:len(blob)-1])
	f.Add([]byte(backupMagic(SecretKind)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := b.RestoreSecret(t.Context(), admin, "target", raw)
		if err == nil {
			if string(raw) != string(blob) {
				t.Fatalf("%x was restored", raw)
			}
			if _, err := b.DeleteSecret(t.Context(), admin, "target", "s"); err != nil {
				t.Fatal(err)
			}
			if err := b.PurgeSecret(t.Context(), admin, "target", "s"); err != nil {
				t.Fatal(err)
			}
			return
		}
		var refused *Error
		if !errors.As(err, &refused) || refused.Kind != BadParameter {
			t.Fatalf("%x: %v", raw, err)
		}
	})
}

// FuzzOpenBackup starts behind the encryption: whatever an authentic blob holds, it is read or refused, never more.
func FuzzOpenBackup(f *testing.F) {
	f.Add([]byte(`{"v":1,"tenantId":"t","name":"s","current":"a","versions":[{"v":1,"version":"a","value":"x","created":1,"updated":1}]}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`{"v":1,"name":"../x"}`))
	f.Add([]byte(`null`))
	s := &Service{installation: &installation{backup: make(backupKey, 32)}}
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		blob, err := s.backup.seal(backupMagic(SecretKind), plaintext)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.openBackup(nil, SecretKind, blob)
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("%q: %v", plaintext, err)
			}
			return
		}
		if checkName(b.Name) != nil || len(b.Versions) == 0 {
			t.Fatalf("%q was accepted as %+v", plaintext, b)
		}
	})
}
