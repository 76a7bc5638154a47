package authz

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func compilePolicies(t testing.TB, list ...AccessPolicy) Policy {
	t.Helper()
	for i := range list {
		list[i].TenantID = tenant
	}
	compiled, err := CompileAccessPolicies(tenant, list)
	if err != nil {
		t.Fatal(err)
	}
	return Policy{TenantID: tenant, AccessPolicies: compiled}
}

// TestVerbs gives each verb alone, and asks all.
func TestVerbs(t *testing.T) {
	t.Parallel()
	caller := Subject{TenantID: tenant, ObjectID: principal}
	also := map[string][]string{"certificates manageissuers": {"getissuers", "listissuers", "deleteissuers"}}
	for kind, list := range verbs {
		object := objectNames[kind]
		for _, given := range append(slices.Clone(list), "all", "ALL", "aLl") {
			var lists [objectKinds][]string
			lists[kind] = []string{given}
			policy := compilePolicies(t, AccessPolicy{
				ObjectID: principal, Keys: lists[keyObjects], Secrets: lists[secretObjects], Certificates: lists[certificateObjects],
				Storage: lists[storageObjects],
			})
			for otherKind, asked := range verbs {
				for _, verb := range append(slices.Clone(asked), "all", "rng", "", "*", "getsecret") {
					want := otherKind == kind && slices.Contains(list, verb) &&
						(verb == given || strings.EqualFold(given, "all") && verb != "purge" || slices.Contains(also[object+" "+given], verb))
					for _, p := range []Permission{
						{Object: objectNames[otherKind], Verb: verb}, {Object: objectNames[otherKind], Verb: strings.ToUpper(verb)},
					} {
						if got := decideAll(policy, caller, p); got.Allowed != want || got.Reason == "" {
							t.Errorf("%s %s: %s: %+v", object, given, p, got)
						}
					}
				}
			}
		}
	}
	all := compilePolicies(t, AccessPolicy{ObjectID: principal, Keys: []string{"ALL", "Purge"}})
	for _, p := range []Permission{{Object: "keys", Verb: "purge"}, {Object: "keys", Verb: "release"}} {
		if !decideAll(all, caller, p).Allowed {
			t.Errorf("all and purge do not allow %s", p)
		}
	}
	for _, p := range []Permission{{Object: "", Verb: "get"}, {Object: "key", Verb: "get"}, {Object: "keys/x", Verb: "get"}, {}} {
		if decideAll(all, caller, p).Allowed {
			t.Errorf("%q is allowed", p)
		}
	}
}

func TestAccessPolicyPrincipals(t *testing.T) {
	t.Parallel()
	get := Permission{Object: "secrets", Verb: "get"}
	plain := AccessPolicy{ObjectID: strings.ToUpper(principal), Secrets: []string{"Get"}}
	compound := plain
	compound.ApplicationID = application
	for name, c := range map[string]struct {
		entry   AccessPolicy
		subject Subject
		allowed bool
	}{
		"principal":                           {plain, Subject{ObjectID: principal}, true},
		"principal through some application":  {plain, Subject{ObjectID: principal, AppID: application}, true},
		"member":                              {plain, Subject{ObjectID: someone, Groups: []string{group, principal}}, true},
		"somebody else":                       {plain, Subject{ObjectID: someone, Groups: []string{group}}, false},
		"the application of that id":          {plain, Subject{ObjectID: someone, AppID: principal}, false},
		"nobody":                              {plain, Subject{Groups: []string{principal}}, false},
		"malformed":                           {plain, Subject{ObjectID: "{" + principal + "}", Groups: []string{"", "x"}}, false},
		"compound":                            {compound, Subject{ObjectID: principal, AppID: strings.ToUpper(application)}, true},
		"compound without application":        {compound, Subject{ObjectID: principal}, false},
		"compound through another":            {compound, Subject{ObjectID: principal, AppID: someone}, false},
		"compound through what is no id":      {compound, Subject{ObjectID: principal, AppID: "web"}, false},
		"compound, the application by itself": {compound, Subject{ObjectID: application, AppID: application}, false},
		"compound, member":                    {compound, Subject{ObjectID: someone, AppID: application, Groups: []string{principal}}, false},
	} {
		c.subject.TenantID = tenant
		if d := decideAll(compilePolicies(t, c.entry), c.subject, get); d.Allowed != c.allowed {
			t.Errorf("%s: %+v", name, d)
		}
		c.subject.TenantID = otherTenant
		if decideAll(compilePolicies(t, c.entry), c.subject, get).Allowed {
			t.Errorf("%s: of another tenant", name)
		}
	}
	both := compilePolicies(t, compound, AccessPolicy{ObjectID: principal, Secrets: []string{"list"}})
	s := Subject{TenantID: tenant, ObjectID: principal, AppID: application}
	if !decideAll(both, s, get).Allowed || !decideAll(both, s, Permission{Object: "secrets", Verb: "list"}).Allowed {
		t.Error("of two entries for one principal only one counts")
	}
}

func TestCompileAccessPolicies(t *testing.T) {
	t.Parallel()
	many := func(n int) (out []AccessPolicy) {
		for i := range n {
			out = append(out, AccessPolicy{TenantID: tenant, ObjectID: testID(i), Keys: []string{"get"}})
		}
		return out
	}
	one := func(change func(a *AccessPolicy)) []AccessPolicy {
		a := AccessPolicy{TenantID: tenant, ObjectID: principal, Keys: []string{"get"}}
		change(&a)
		return []AccessPolicy{a}
	}
	for name, list := range map[string][]AccessPolicy{
		"":                         many(MaxAccessPolicies),
		" none":                    nil,
		" without verbs":           one(func(a *AccessPolicy) { a.Keys = nil }),
		" tenant in capitals":      one(func(a *AccessPolicy) { a.TenantID = strings.ToUpper(tenant) }),
		" verb twice":              one(func(a *AccessPolicy) { a.Keys = []string{"get", "GET", "all"} }),
		" same id, different apps": append(many(1), AccessPolicy{TenantID: tenant, ObjectID: testID(0), ApplicationID: application}),
		"too many":                 many(MaxAccessPolicies + 1),
		"no tenant":                one(func(a *AccessPolicy) { a.TenantID = "" }),
		"other tenant":             one(func(a *AccessPolicy) { a.TenantID = otherTenant }),
		"no object id":             one(func(a *AccessPolicy) { a.ObjectID = "" }),
		"object id of a group":     one(func(a *AccessPolicy) { a.ObjectID = GroupPrefix + group }),
		"object id of nobody":      one(func(a *AccessPolicy) { a.ObjectID = "00000000-0000-0000-0000-000000000000" }),
		"application that is none": one(func(a *AccessPolicy) { a.ApplicationID = "web" }),
		"verb of another kind":     one(func(a *AccessPolicy) { a.Secrets = []string{"sign"} }),
		"verb that there is not":   one(func(a *AccessPolicy) { a.Certificates = []string{"*"} }),
		"empty verb":               one(func(a *AccessPolicy) { a.Keys = []string{""} }),
		"look-alike verb":          one(func(a *AccessPolicy) { a.Keys = []string{"\u017fign"} }),
		"storage verb":             one(func(a *AccessPolicy) { a.Storage = []string{"sign"} }),
		"too many verbs":           one(func(a *AccessPolicy) { a.Keys = slices.Repeat([]string{"get"}, maxVerbs+1) }),
		"same id twice":            append(many(2), AccessPolicy{TenantID: tenant, ObjectID: strings.ToUpper(testID(1))}),
		"same id and app twice": {
			{TenantID: tenant, ObjectID: principal, ApplicationID: application},
			{TenantID: tenant, ObjectID: principal, ApplicationID: strings.ToUpper(application)},
		},
	} {
		valid := name == "" || name[0] == ' '
		if got, err := CompileAccessPolicies(tenant, list); (err == nil) != valid || err != nil && (!isInvalid(err) || got != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := CompileAccessPolicies("", one(func(a *AccessPolicy) { a.TenantID = "" })); err == nil {
		t.Error("a vault without a tenant has access policies")
	}
}

// TestAccessPoliciesNeverWiden takes entries and verbs away at random.
func TestAccessPoliciesNeverWiden(t *testing.T) {
	t.Parallel()
	w := newWorld(7)
	narrowed := 0
	for range 2000 {
		var list []AccessPolicy
		for _, id := range somePeople {
			a := AccessPolicy{ObjectID: id}
			for range w.IntN(6) {
				a.Keys = append(a.Keys, w.pick(append(verbs[keyObjects], "all")...))
			}
			list = append(list, a)
		}
		before := compilePolicies(t, list...)
		less := slices.Clone(list)
		i := w.IntN(len(less))
		if n := len(less[i].Keys); n > 0 {
			less[i].Keys = slices.Clone(less[i].Keys[:w.IntN(n)])
		} else {
			less = slices.Delete(less, i, i+1)
		}
		after := compilePolicies(t, less...)
		for _, verb := range verbs[keyObjects] {
			s, p := w.subject(), Permission{Object: "keys", Verb: verb}
			was, is := decideAll(before, s, p).Allowed, decideAll(after, s, p).Allowed
			if is && !was {
				t.Fatalf("%+v is allowed %s by %+v and was not by %+v", s, p, less, list)
			}
			if was && !is {
				narrowed++
			}
		}
	}
	if narrowed < 100 {
		t.Fatalf("only %d rights were lost", narrowed)
	}
}

func TestVerbsFitTheirSet(t *testing.T) {
	t.Parallel()
	for kind, list := range verbs {
		seen := make(map[verbSet]bool)
		for _, v := range list {
			bit := verbBit(kind, v)
			if bit == 0 || seen[bit] {
				t.Errorf("%s %s has the bit %s", objectNames[kind], v, fmt.Sprintf("%b", bit))
			}
			seen[bit] = true
		}
	}
}
