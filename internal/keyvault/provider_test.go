package keyvault

import (
	"context"
	"crypto/elliptic"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// A puppet is a provider that somebody else holds: before runs ahead of each call and can block, fail or panic.
type puppet struct {
	hsm.Provider
	before func(ctx context.Context, call string) error
}

func (p *puppet) Generate(ctx context.Context, spec hsm.Spec) (hsm.New, error) {
	if err := p.before(ctx, "generate"); err != nil {
		return hsm.New{}, err
	}
	return p.Provider.Generate(ctx, spec)
}

func (p *puppet) Import(ctx context.Context, key hsm.PrivateKey) (hsm.New, error) {
	if err := p.before(ctx, "import"); err != nil {
		return hsm.New{}, err
	}
	return p.Provider.Import(ctx, key)
}

func (p *puppet) ImportWrapped(ctx context.Context, kek hsm.Key, target hsm.KeyType, wrapped []byte) (hsm.New, error) {
	if err := p.before(ctx, "import wrapped"); err != nil {
		return hsm.New{}, err
	}
	return p.Provider.ImportWrapped(ctx, kek, target, wrapped)
}

func (p *puppet) Open(ctx context.Context, spec hsm.Spec, blob []byte) (hsm.Key, error) {
	if err := p.before(ctx, "open"); err != nil {
		return nil, err
	}
	return p.Provider.Open(ctx, spec, blob)
}

func (p *puppet) Random(ctx context.Context, n int) ([]byte, error) {
	if err := p.before(ctx, "random"); err != nil {
		return nil, err
	}
	return p.Provider.Random(ctx, n)
}

// A gate stops the callers that come to it until it is opened.
type gate struct {
	arrived chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 100), make(chan struct{})} }

// pass waits until the gate opens, or ctx ends.
func (g *gate) pass(ctx context.Context) error {
	g.arrived <- struct{}{}
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestSlowKeyHindersNobody holds the making of a key up while everything else goes on, with the same key and the same name.
func TestSlowKeyHindersNobody(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	making := newGate()
	slow := b.another(t, &puppet{b.hsm, func(ctx context.Context, call string) error {
		if call == "generate" {
			return making.pass(ctx)
		}
		return nil
	}})
	head := b.audit.Head().Seq
	made := make(chan Key)
	go func() {
		k, err := slow.CreateKey(ctx, admin, "vault", "k", CreateKeyParams{Type: "RSA", Bits: 2048})
		if err != nil {
			t.Error(err)
		}
		made <- k
	}()
	<-making.arrived
	if n := b.audit.Head().Seq - head; n != 0 {
		t.Errorf("%d intents are on record before the key is made", n)
	}
	digest := make([]byte, 32)
	signature, used, err := slow.Sign(ctx, admin, "vault", "k", "", "ES256", digest)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := slow.Verify(ctx, admin, "vault", "k", used.Version, "ES256", digest, signature); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if _, err := slow.SetSecret(ctx, admin, "vault", "s", SetSecretParams{Value: NewSecretValue("v")}); err != nil {
		t.Error(err)
	}
	if _, err := slow.UpdateKey(ctx, admin, "vault", "k", "", UpdateKeyParams{Tags: map[string]string{"a": "b"}}); err != nil {
		t.Error(err)
	}
	if _, err := slow.ImportKey(ctx, admin, "vault", "other", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())}); err != nil {
		t.Error(err)
	}
	if n, err := slow.ActOnDue(ctx, everything); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if page, err := slow.ListKeys(ctx, admin, "vault", "", 25); err != nil || len(page.Items) != 2 {
		t.Errorf("%+v, %v", page, err)
	}
	close(making.open)
	k := <-made
	if got, err := b.GetKey(ctx, admin, "vault", "k", ""); err != nil || got.Version != k.Version || got.Bits != 2048 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestMeanwhile changes what a key's making was allowed by while the key is made.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	create := func(s *Service, ctx context.Context) error {
		_, err := s.CreateKey(ctx, admin, "vault", "k", CreateKeyParams{Type: "EC-HSM", Curve: "P-384"})
		return err
	}
	rotate := func(s *Service, ctx context.Context) error {
		_, err := s.RotateKey(ctx, admin, "vault", "k")
		return err
	}
	remove := func(t *testing.T, b *bench) {
		if _, err := b.DeleteKey(t.Context(), admin, "vault", "k"); err != nil {
			t.Error(err)
		}
	}
	manage := func(t *testing.T, b *bench) {
		change(t, b, func(v *resource.Vault) string { return objectKey(v, KeyKind, "k") }, func(o *objectRecord) { o.Managed = true })
	}
	for name, c := range map[string]struct {
		act       func(*Service, context.Context) error
		meanwhile func(*testing.T, *bench)
		want      Kind
	}{
		"create, key deleted": {create, remove, DeletedButRecoverable},
		"rotate, key deleted": {rotate, remove, NotFound},
		"create, managed":     {create, manage, Managed},
		"rotate, managed":     {rotate, manage, Managed},
		"create, vault deleted": {create, func(t *testing.T, b *bench) {
			b.deleteVault(t, "vault")
		}, VaultNotFound},
		"create, rights taken": {create, func(t *testing.T, b *bench) {
			changeVault(t, b, "administrators", nil)
		}, AccessDenied},
		"create, tier changed": {create, func(t *testing.T, b *bench) {
			changeVault(t, b, "tier", resource.Standard)
		}, Conflict},
		"rotate, other kind": {rotate, func(t *testing.T, b *bench) {
			b.create(t, "vault", "k", CreateKeyParams{Type: "EC", Curve: "P-521"})
		}, Conflict},
		"rotate, same kind": {rotate, func(t *testing.T, b *bench) {
			b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
		}, 0},
		"create, same name": {create, func(t *testing.T, b *bench) {
			b.create(t, "vault", "K", CreateKeyParams{Type: "EC"})
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			changeVault(t, b, "tier", resource.Premium)
			b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
			versions := 0
			s := b.another(t, &puppet{b.hsm, func(context.Context, string) error {
				c.meanwhile(t, b)
				versions = b.records(t, "version/")
				return nil
			}})
			err := c.act(s, t.Context())
			if c.want == 0 && err == nil {
				versions++
			} else {
				wantKind(t, err, c.want)
			}
			if n := b.records(t, "version/"); n != versions || n != b.records(t, "value/") {
				t.Errorf("%d versions, want %d", n, versions)
			}
			b.consistent(t)
		})
	}
}

// TestCancelledWhileGenerating: a caller who goes away leaves nothing, on record neither.
func TestCancelledWhileGenerating(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	making := newGate()
	s := b.another(t, &puppet{b.hsm, func(ctx context.Context, _ string) error { return making.pass(ctx) }})
	ctx, cancel := context.WithCancel(t.Context())
	head, before := b.audit.Head().Seq, b.dump(t)
	done := make(chan error)
	go func() {
		_, err := s.CreateKey(ctx, admin, "vault", "k", CreateKeyParams{Type: "EC"})
		done <- err
	}()
	<-making.arrived
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("created: %v", err)
	}
	if b.audit.Head().Seq != head || !maps.Equal(before, b.dump(t)) {
		t.Error("something is left")
	}
}

// TestSameKeyAtOnce makes two versions of a new name at the same time: both are there, in some order.
func TestSameKeyAtOnce(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	making := newGate()
	s := b.another(t, &puppet{b.hsm, func(ctx context.Context, call string) error { return making.pass(ctx) }})
	var wg sync.WaitGroup
	keys := make([]Key, 2)
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = s.CreateKey(ctx, admin, "vault", []string{"Key", "key"}[i], CreateKeyParams{Type: "EC"}); err != nil {
				t.Error(err)
			}
		})
	}
	<-making.arrived
	<-making.arrived
	close(making.open)
	wg.Wait()
	current, err := b.GetKey(ctx, admin, "vault", "key", "")
	if err != nil {
		t.Fatal(err)
	}
	page, err := b.ListKeyVersions(ctx, admin, "vault", "key", "", 25)
	if err != nil || len(page.Items) != 2 || keys[0].Version == keys[1].Version || keys[0].Name != keys[1].Name {
		t.Errorf("%+v, %v", page.Items, err)
	}
	if current.Version != keys[0].Version && current.Version != keys[1].Version {
		t.Errorf("the current version is %s", current.Version)
	}
	for _, k := range keys {
		if got, err := b.GetKey(ctx, admin, "vault", "key", k.Version); err != nil || !gocmp.Equal(k, got) {
			t.Errorf("%+v, want %+v; %v", got, k, err)
		}
	}
	b.consistent(t)
}

// TestProviderFails makes the provider fail in each way at each call. Nothing is left, nothing is announced, and the
// service goes on.
func TestProviderFails(t *testing.T) {
	t.Parallel()
	fault := errors.New("the token was pulled out")
	b := newKeyBench(t)
	b.create(t, "premium", "k", CreateKeyParams{Type: "EC"})
	kek := b.take(t, "premium", "kek", ImportKeyParams{Type: "RSA-HSM", Private: rsaMembers(rsaKey()), Operations: []string{"import"}})
	file := transferFile(t, kek, pkcs8(t, makeEC(t, elliptic.P256())))
	acts := map[string]func(*Service, context.Context) error{
		"generate": func(s *Service, ctx context.Context) error {
			_, err := s.CreateKey(ctx, admin, "premium", "k", CreateKeyParams{Type: "EC"})
			return err
		},
		"rotate": func(s *Service, ctx context.Context) error {
			_, err := s.RotateKey(ctx, admin, "premium", "k")
			return err
		},
		"import": func(s *Service, ctx context.Context) error {
			_, err := s.ImportKey(ctx, admin, "premium", "k", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())})
			return err
		},
		"import wrapped": func(s *Service, ctx context.Context) error {
			_, err := s.ImportKey(ctx, admin, "premium", "k", ImportKeyParams{Type: "EC-HSM", Transfer: file, ParseKeyID: parseTestID})
			return err
		},
		"open": func(s *Service, ctx context.Context) error {
			_, _, err := s.Sign(ctx, admin, "premium", "k", "", "ES256", make([]byte, 32))
			return err
		},
		"random": func(s *Service, ctx context.Context) error {
			_, _, err := s.ManagedHSMs().GetRandomBytes(ctx, admin, "pool", 8)
			return err
		},
	}
	for call, act := range acts {
		for way, fail := range map[string]func() error{
			"fault":   func() error { return fault },
			"refusal": func() error { return &hsm.Error{Kind: hsm.Unsupported, Message: "not that one"} },
			"busy":    func() error { return hsm.ErrBusy },
			"panic":   func() error { panic(fault) },
		} {
			t.Run(call+", "+way, func(t *testing.T) {
				s := b.another(t, &puppet{b.hsm, func(_ context.Context, now string) error {
					if now == call || now == "generate" && call == "rotate" {
						return fail()
					}
					return nil
				}})
				head, before := b.audit.Head().Seq, b.dump(t)
				err := recovered(func() error { return act(s, t.Context()) })
				switch {
				case way == "fault" || way == "panic":
					var spoiled *seal.RecordError // which key it was, if it was stored
					if !errors.Is(err, fault) && !errors.As(err, &spoiled) {
						t.Errorf("error %v", err)
					}
					var refused *Error
					if errors.As(err, &refused) {
						t.Errorf("a fault is told to the caller as his: %v", err)
					}
				case call == "open" || call == "random":
					if err == nil {
						t.Error("no error")
					}
				case way == "busy":
					wantKind(t, err, Busy)
				default:
					wantKind(t, err, BadParameter)
				}
				if b.audit.Head().Seq != head || !maps.Equal(before, b.dump(t)) {
					t.Error("something is left")
				}
			})
		}
	}
	// The store is not left in a transaction that nobody ends.
	b.set(t, "vault", "s", "v")
	b.consistent(t)
}

// recovered turns a panic with an error into the error.
func recovered(act func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = p.(error)
		}
	}()
	return act()
}

// TestKeyStoreFails makes each transaction of each way to a new version fail in each way: there is a whole version or none.
func TestKeyStoreFails(t *testing.T) {
	t.Parallel()
	acts := map[string]func(*bench, context.Context) error{
		"create": func(b *bench, ctx context.Context) error {
			_, err := b.CreateKey(ctx, admin, "premium", "k", CreateKeyParams{Type: "EC"})
			return err
		},
		"import": func(b *bench, ctx context.Context) error {
			_, err := b.ImportKey(ctx, admin, "premium", "k", ImportKeyParams{Type: "oct-HSM", Private: PrivateKey{K: make([]byte, 16)}})
			return err
		},
		"rotate": func(b *bench, ctx context.Context) error {
			_, err := b.RotateKey(ctx, admin, "premium", "k")
			return err
		},
	}
	for name, act := range acts {
		for _, fault := range []storetest.Fault{storetest.Fail, storetest.Lost, storetest.Unknown, storetest.Twice} {
			b := newKeyBench(t)
			b.create(t, "premium", "k", CreateKeyParams{Type: "EC"})
			b.faulty.Schedule(fault)
			err := act(b, t.Context())
			if failed(err) == (fault == storetest.Twice) {
				t.Errorf("%s, fault %d: %v", name, fault, err)
			}
			want := 1
			if fault == storetest.Unknown || fault == storetest.Twice {
				want = 2
			}
			if n := b.records(t, "version/"); n != want {
				t.Errorf("%s, fault %d: %d versions, want %d", name, fault, n, want)
			}
			b.consistent(t)
		}
	}
}

// TestIntentBeforeKey makes the audit log fail: nothing may change.
func TestIntentBeforeKey(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.create(t, "pool", "k", CreateKeyParams{Type: "EC-HSM", Attributes: Attributes{Expires: new(b.clock().Unix() + 100*secondsPerDay)}})
	if _, err := b.of("pool").SetRotationPolicy(ctx, admin, "pool", "k", rotateAfter("P10D")); err != nil {
		t.Fatal(err)
	}
	blob, err := b.of("pool").BackupKey(ctx, admin, "pool", "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.audit.Close(); err != nil {
		t.Fatal(err)
	}
	acts := keyActs(ctx, b.of("pool"), admin, "pool", blob)
	for _, name := range []string{"create", "import", "update", "delete", "recover", "purge", "restore", "rotate", "set policy"} {
		b.without(t, func() {
			if err := acts[name](); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	b.advance(90 * 24 * time.Hour)
	b.without(t, func() {
		if n, err := b.ActOnDue(ctx, everything); n != 0 || !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("acted on %d, %v", n, err)
		}
	})
}

// TestShareOfMaking lets one principal fill its share of the places in which RSA keys are made; others have theirs.
func TestShareOfMaking(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	making := newGate()
	slow := b.another(t, &puppet{b.hsm, func(ctx context.Context, call string) error {
		if call == "generate" {
			return making.pass(ctx)
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(ctx)
	create := func(caller *identity.Caller, kty string) error {
		_, err := slow.CreateKey(ctx, caller, "vault", "k", CreateKeyParams{Type: kty})
		return err
	}
	var all sync.WaitGroup
	for range makingPerPrincipal {
		all.Go(func() { _ = create(admin, "RSA") })
		<-making.arrived
	}
	wantKind(t, create(admin, "RSA"), Busy)
	other := *admin
	other.ObjectID, other.Groups = crewID, []string{crewID}
	for caller, kty := range map[*identity.Caller]string{admin: "EC", &other: "RSA"} {
		all.Go(func() { _ = create(caller, kty) })
		<-making.arrived // neither other types nor other principals are kept out
	}
	cancel()
	all.Wait()
	for _, caller := range []*identity.Caller{admin, &other} {
		for range makingPerPrincipal {
			if _, err := slow.making.Enter(caller.Principal()); err != nil {
				t.Errorf("%s still has keys in the making", caller.Principal())
			}
		}
	}
}

// TestUnsupportedKey uses a key that the provider, as it runs now, does not have: the caller is told, and nothing looks damaged.
func TestUnsupportedKey(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC", Curve: "P-256K"})
	without := b.another(t, &puppet{b.hsm, func(_ context.Context, call string) error {
		if call == "open" {
			return &hsm.Error{Kind: hsm.Unsupported, Message: "The curve P-256K is not allowed here."}
		}
		return nil
	}})
	_, _, err := without.Sign(ctx, admin, "vault", "k", "", "ES256K", make([]byte, 32))
	wantKind(t, err, BadParameter)
	if err == nil || err.Error() != "The curve P-256K is not allowed here." {
		t.Errorf("the caller is told: %v", err)
	}
}
