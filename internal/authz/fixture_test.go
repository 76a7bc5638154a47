package authz

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
)

const (
	otherTenant = "0a1b2c3d-0000-4000-8000-000000000002"
	someone     = "22222222-0000-4000-8000-00000000000c"
	application = "44444444-0000-4000-8000-00000000000d"

	sub      = "/subscriptions/11111111-0000-4000-8000-000000000001"
	otherSub = "/subscriptions/11111111-0000-4000-8000-000000000002"
	groupA   = sub + "/resourceGroups/app"
	groupB   = sub + "/resourceGroups/app2"
	vaultA   = groupA + "/providers/Microsoft.KeyVault/vaults/web"
	vaultB   = groupA + "/providers/Microsoft.KeyVault/vaults/web2"
	pool     = groupA + "/providers/Microsoft.KeyVault/managedHSMs/web"
)

func mustParseScope(t testing.TB, text string) Scope {
	t.Helper()
	s, err := ParseScope(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// give is an assignment as tests write it.
type given struct{ role, principal, scope string }

func give(role, principal, scope string) given { return given{role, principal, scope} }

func assignment(t testing.TB, n int, g given) Assignment {
	t.Helper()
	return Assignment{ID: testID(n), Scope: mustParseScope(t, g.scope), PrincipalID: g.principal, RoleID: g.role}
}

// testID returns an id that differs for each n.
func testID(n int) string { return fmt.Sprintf("99999999-0000-4000-8000-%012x", n) }

// compile makes Roles of the built-in roles and custom ones, none of which may be malformed.
func compile(t testing.TB, custom []RoleDefinition, list ...given) *Roles {
	t.Helper()
	var assignments []Assignment
	for i, g := range list {
		assignments = append(assignments, assignment(t, i, g))
	}
	return compileAll(t, custom, assignments)
}

func compileAll(t testing.TB, custom []RoleDefinition, assignments []Assignment) *Roles {
	t.Helper()
	r := Compile(tenant, append(BuiltInRoles(), custom...), assignments)
	if err := errors.Join(r.Ignored()...); err != nil {
		t.Fatal(err)
	}
	return r
}

// customRole is assignable in sub.
func customRole(n int, set PermissionSet) RoleDefinition {
	return RoleDefinition{
		ID: testID(n), Name: fmt.Sprintf("Role %d", n), AssignableScopes: []string{sub}, Permissions: []PermissionSet{set},
	}
}

func isInvalid(err error) bool { return errors.As(err, new(*InvalidError)) }

func isDenied(err error) bool { return errors.As(err, new(*DeniedError)) }

// world makes random scopes, roles, assignments and questions from so few parts that they often meet.
type world struct{ *rand.Rand }

func newWorld(seed uint64) world { return world{rand.New(rand.NewPCG(seed, 0))} }

func (w world) pick(list ...string) string { return list[w.IntN(len(list))] }

func (w world) scope() string {
	s := w.pick(sub, otherSub)
	switch w.IntN(8) {
	case 0:
		return "/"
	case 1:
		return s
	}
	s += "/resourceGroups/" + w.pick("app", "app2", "ap")
	if w.IntN(4) == 0 {
		return s
	}
	if w.IntN(4) == 0 {
		s += "/providers/Microsoft.KeyVault/managedHSMs/" + w.pick("web", "web2")
		return s + w.pick("", "/keys", "/keys/a", "/keys/ab")
	}
	s += "/providers/Microsoft.KeyVault/vaults/" + w.pick("web", "web2", "web-2")
	return s + w.pick("", "/secrets/a", "/secrets/ab", "/keys/a", "/certificates/a")
}

// spelling changes the case of letters at random.
func (w world) spelling(text string) string {
	return strings.Map(func(c rune) rune {
		if w.IntN(2) == 0 {
			return []rune(strings.ToUpper(string(c)))[0]
		}
		return []rune(strings.ToLower(string(c)))[0]
	}, text)
}

var someActions = []string{
	"Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/delete",
	"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/read", "Microsoft.KeyVault/vaults/write",
	"Microsoft.KeyVault/managedHsm/keys/read/action", "Microsoft.Authorization/roleAssignments/write",
	"Microsoft.Authorization/roleAssignments/read",
}

func (w world) action() string { return w.pick(someActions...) }

func (w world) pattern() string {
	switch w.IntN(8) {
	case 0:
		return "*"
	case 1:
		return w.pick("*/read", "*/action", "Microsoft.KeyVault/*", "Microsoft.KeyVault/vaults/*/read", "*.KeyVault/*s/*")
	}
	parts := strings.Split(w.action(), "/")
	parts[w.IntN(len(parts))] = "*"
	if w.IntN(2) == 0 {
		return w.action()
	}
	return w.spelling(strings.Join(parts, "/"))
}

func (w world) patterns(max int) []string {
	var out []string
	for range w.IntN(max + 1) {
		out = append(out, w.pattern())
	}
	return out
}

// role is a custom one that may be assigned anywhere.
func (w world) role(n int) RoleDefinition {
	d := customRole(n, PermissionSet{})
	d.AssignableScopes, d.Permissions = []string{"/"}, nil
	for range 1 + w.IntN(2) {
		d.Permissions = append(d.Permissions, PermissionSet{
			Actions: w.patterns(3), NotActions: w.patterns(2), DataActions: w.patterns(3), NotDataActions: w.patterns(2),
		})
	}
	return d
}

var somePeople = []string{principal, someone, group, application}

func (w world) assignments(t testing.TB, roles []RoleDefinition, count int) []Assignment {
	t.Helper()
	var out []Assignment
	for i := range count {
		a := assignment(t, 1000+i, give(roles[w.IntN(len(roles))].ID, w.pick(somePeople...), w.scope()))
		a.PrincipalType = PrincipalType(w.pick("", "User", "Group", "ServicePrincipal"))
		out = append(out, a)
	}
	return out
}

func (w world) subject() Subject {
	s := Subject{TenantID: tenant, ObjectID: w.spelling(w.pick(somePeople...))}
	for range w.IntN(3) {
		s.Groups = append(s.Groups, w.pick(somePeople...))
	}
	return s
}

func (w world) question(t testing.TB) (Subject, Plane, string, Scope) {
	t.Helper()
	return w.subject(), Plane(w.IntN(int(planes))), w.spelling(w.action()), mustParseScope(t, w.spelling(w.scope()))
}

// newID is a random one of a fixed seed.
func (w world) newID() string {
	id := uuid.UUID{6: 0x40, 8: 0x80}
	for i := 9; i < len(id); i++ {
		id[i] = byte(w.UintN(256))
	}
	return id.String()
}

// decideAll is Decide for the vault as a whole.
func decideAll(policy Policy, s Subject, p Permission) Decision {
	return Decide(policy, s, p, policy.Scope)
}
