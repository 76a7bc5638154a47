package authz

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// Conditions as Azure's portal writes them, one for each of its templates.
const (
	onlyRoles = `(
 (
  !(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})
 )
 OR 
 (
  @Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {` + RoleVaultReader + `, ` + RoleReader + `}
 )
)
AND
(
 (
  !(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'})
 )
 OR 
 (
  @Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {` + RoleVaultReader + `, ` + RoleReader + `}
 )
)`
	onlyRolesToTypes = `((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR ` +
		`(@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {` + RoleReader + `} AND ` +
		`@Request[Microsoft.Authorization/roleAssignments:PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {'user', 'Group'}))`
	onlyRolesToPrincipals = `((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR ` +
		`(@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {` + RoleReader + `} AND ` +
		`@Request[Microsoft.Authorization/roleAssignments:PrincipalId] ForAnyOfAnyValues:GuidEquals {` + someone + `}))`
	allButRoles = `((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR ` +
		`(@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAllValues:GuidNotEquals {` +
		RoleOwner + `, ` + RoleUserAccessAdministrator + `, ` + RoleAccessControlAdministrator + `}))`
	allButPrincipals = `((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR ` +
		`(@Request[Microsoft.Authorization/roleAssignments:PrincipalId] ForAnyOfAllValues:GuidNotEquals {` + someone + `}))`
)

func mustParseCondition(t testing.TB, text string) *Condition {
	t.Helper()
	c, err := ParseCondition(ConditionVersion, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		condition          string
		role, principal    string
		kind               PrincipalType
		canWrite, canClear bool
	}{
		"listed role":                   {onlyRoles, RoleReader, someone, "", true, true},
		"other role":                    {onlyRoles, RoleOwner, someone, "", false, false},
		"built-in, listed role":         {dataAccessCondition(), RoleVaultSecretsUser, someone, "", true, true},
		"built-in, other role":          {dataAccessCondition(), RoleVaultDataAccessAdministrator, someone, "", false, false},
		"listed role and type":          {onlyRolesToTypes, RoleReader, someone, UserPrincipal, true, true},
		"second type":                   {onlyRolesToTypes, RoleReader, someone, GroupPrincipal, true, true},
		"other type":                    {onlyRolesToTypes, RoleReader, someone, ServicePrincipal, false, true},
		"type not said":                 {onlyRolesToTypes, RoleReader, someone, AnyPrincipal, false, true},
		"other role, type":              {onlyRolesToTypes, RoleOwner, someone, UserPrincipal, false, true},
		"listed role and principal":     {onlyRolesToPrincipals, RoleReader, someone, "", true, true},
		"other principal":               {onlyRolesToPrincipals, RoleReader, principal, "", false, true},
		"role not excluded":             {allButRoles, RoleVaultAdministrator, someone, "", true, true},
		"role excluded":                 {allButRoles, RoleUserAccessAdministrator, someone, "", false, true},
		"principal not excluded":        {allButPrincipals, RoleReader, principal, "", true, true},
		"principal excluded":            {allButPrincipals, RoleReader, someone, "", false, true},
		"two clauses for one action":    {onlyRolesToTypes + " AND " + onlyRolesToPrincipals, RoleReader, someone, UserPrincipal, true, true},
		"of which one does not hold":    {onlyRolesToTypes + " AND " + onlyRolesToPrincipals, RoleReader, principal, UserPrincipal, false, true},
		"of which the other does not":   {onlyRolesToTypes + " AND " + onlyRolesToPrincipals, RoleReader, someone, "", false, true},
		"no condition":                  {"", RoleOwner, someone, "", true, true},
		"an id in capitals is the same": {strings.ReplaceAll(onlyRolesToPrincipals, someone, strings.ToUpper(someone)), RoleReader, someone, "", true, true},
	} {
		condition := mustParseCondition(t, c.condition)
		ch := &change{role: uuid.MustParse(c.role), principal: uuid.MustParse(c.principal), principalType: c.kind}
		for action, want := range map[string]bool{
			writeAssignments: c.canWrite, deleteAssignments: c.canClear, strings.ToUpper(writeAssignments): c.canWrite,
			"Microsoft.Authorization/roleAssignments/read": true, writeDefinitions: true,
		} {
			if got := mayUse(&query{name: action, change: ch}, nil, condition); got != want {
				t.Errorf("%s: %s: %v", name, action, got)
			}
			if got := mayUse(&query{name: action, change: ch}, condition, nil); got != want {
				t.Errorf("%s, other place: %s: %v", name, action, got)
			}
			limited := c.condition != "" && condition.limits(action)
			if got := mayUse(&query{name: action}, condition); got == limited {
				t.Errorf("%s: %s without saying what: %v", name, action, got)
			}
			if !mayUse(&query{name: action, plane: Data}, condition) {
				t.Errorf("%s: %s: limits a data action", name, action)
			}
		}
	}
}

// TestConditionsCombine: those of the assignment and of the role must both hold.
func TestConditionsCombine(t *testing.T) {
	t.Parallel()
	roles, people := mustParseCondition(t, onlyRoles), mustParseCondition(t, onlyRolesToPrincipals)
	ch := &change{role: uuid.MustParse(RoleReader), principal: uuid.MustParse(someone)}
	if !mayUse(&query{name: writeAssignments, change: ch}, roles, people) {
		t.Error("denied")
	}
	ch.principal = uuid.MustParse(principal)
	if mayUse(&query{name: writeAssignments, change: ch}, roles, people) || mayUse(&query{name: writeAssignments, change: ch}, people, roles) {
		t.Error("allowed to somebody else")
	}
}

// TestHandingOn: a limited caller hands on the right to assign roles only by a role that a condition names.
func TestHandingOn(t *testing.T) {
	t.Parallel()
	ch := &change{role: uuid.MustParse(RoleVaultDataAccessAdministrator), principal: uuid.MustParse(someone), handsOnAccess: true}
	naming := strings.ReplaceAll(onlyRoles, RoleReader, RoleVaultDataAccessAdministrator)
	for name, c := range map[string]struct {
		condition string
		allowed   bool
	}{
		"no limit": {"", true}, "all but others": {allButRoles, false}, "named": {naming, true}, "not named": {onlyRoles, false},
		"another principal only": {allButPrincipals, false},
	} {
		if got := mayUse(&query{name: writeAssignments, change: ch}, mustParseCondition(t, c.condition)); got != c.allowed {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestParseConditionRefuses(t *testing.T) {
	t.Parallel()
	good := onlyRolesToTypes
	if c, err := ParseCondition("", ""); c != nil || err != nil {
		t.Errorf("an empty condition: %v, %v", c, err)
	}
	for _, version := range []string{"", "1.0", "2", "2.0 ", "3.0"} {
		if _, err := ParseCondition(version, good); !isInvalid(err) {
			t.Errorf("version %q: %v", version, err)
		}
	}
	replace := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	for name, text := range map[string]string{
		"space":                   " ",
		"constant":                "true",
		"without clause":          "AND",
		"negation left out":       replace("!", ""),
		"negation of everything":  "!" + good,
		"other action":            replace("roleAssignments/write", "roleAssignments/read"),
		"wildcard":                replace("roleAssignments/write", "roleAssignments/*"),
		"action in capitals":      replace("Microsoft.Authorization/roleAssignments/write", strings.ToUpper(writeAssignments)),
		"OR of clauses":           good + " OR " + good,
		"AND for OR":              replace(" OR ", " AND "),
		"OR for AND":              replace(" AND ", " OR "),
		"resource for request":    strings.ReplaceAll(good, "@Request", "@Resource"),
		"principal for request":   replace("@Request", "@Principal"),
		"environment for request": replace("@Request", "@Environment"),
		"other type of resource":  replace("roleAssignments:Role", "roleDefinitions:Role"),
		"other attribute":         replace("RoleDefinitionId", "Description"),
		"longer attribute":        replace("RoleDefinitionId", "RoleDefinitionIds"),
		"other operator":          replace("ForAnyOfAnyValues:GuidEquals", "ForAllOfAnyValues:GuidEquals"),
		"operator's negation":     replace("ForAnyOfAnyValues:GuidEquals", "ForAnyOfAnyValues:GuidNotEquals"),
		"longer operator":         replace("GuidEquals", "GuidEqualsOrNot"),
		"text for ids":            replace("GuidEquals", "StringEqualsIgnoreCase"),
		"ids for text":            replace("StringEqualsIgnoreCase", "GuidEquals"),
		"no values":               replace("{"+RoleReader+"}", "{}"),
		"no types":                replace("{'user', 'Group'}", "{}"),
		"trailing comma":          replace(RoleReader, RoleReader+","),
		"quoted id":               replace(RoleReader, "'"+RoleReader+"'"),
		"id too short":            replace(RoleReader, RoleReader[1:]),
		"id too long":             replace(RoleReader, RoleReader+"0"),
		"id of nobody":            replace(RoleReader, "00000000-0000-0000-0000-000000000000"),
		"id in braces":            replace(RoleReader, "{"+RoleReader+"}"),
		"other type":              replace("'user'", "'Device'"),
		"look-alike type":         replace("'user'", "'u\u017fer'"),
		"type without quotes":     replace("'user'", "user"),
		"type left open":          replace("'user'", "'user"),
		"bracket missing":         good[:len(good)-1],
		"bracket too many":        good + ")",
		"first bracket missing":   good[1:],
		"doubled brackets":        "(" + good + ")",
		"text behind":             good + " x",
		"clause behind":           good + good,
		"AND behind":              good + " AND ",
		"comment":                 good + " // x",
		"zero byte":               good + "\x00",
		"space of another kind":   replace(" OR ", "\u00a0OR "),
		"cut":                     good[:len(good)/2],
		"too many clauses":        strings.Repeat(good+" AND ", maxClauses) + good,
		"too many tests": replace(" AND ", strings.Repeat(" AND @Request[Microsoft.Authorization/roleAssignments:PrincipalId] "+
			"ForAnyOfAnyValues:GuidEquals{"+someone+"}", maxTests)+" AND "),
		"too long": good + strings.Repeat(" ", maxCondition),
		"storage": "((!(ActionMatches{'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'})) OR " +
			"(@Resource[Microsoft.Storage/storageAccounts/blobServices/containers:name] StringEquals 'a'))",
	} {
		if c, err := ParseCondition(ConditionVersion, text); !isInvalid(err) || c != nil {
			t.Errorf("%s: %s, %v", name, c, err)
		}
	}
	most := strings.Repeat(good+"AND", maxClauses-1) + good
	if _, err := ParseCondition(ConditionVersion, most); err != nil {
		t.Errorf("%d clauses: %v", maxClauses, err)
	}
}

// withoutSpace is how two spellings of a condition are compared: nothing else may differ, but the case of ids and types.
func withoutSpace(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), "")) }

func FuzzParseCondition(f *testing.F) {
	for _, s := range []string{
		onlyRoles, onlyRolesToTypes, onlyRolesToPrincipals, allButRoles, allButPrincipals, dataAccessCondition(), "true", "((", "",
		onlyRoles + " AND " + allButRoles,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCondition(ConditionVersion, text)
		if err != nil {
			if !isInvalid(err) || c != nil || len(err.Error()) > 1000 {
				t.Fatalf("%q: %v, %v", text, c, err)
			}
			return
		}
		if withoutSpace(c.String()) != withoutSpace(text) {
			t.Fatalf("%q was read as %q: something was passed over", text, c)
		}
		again, err := ParseCondition(ConditionVersion, c.String())
		if err != nil || again.String() != c.String() {
			t.Fatalf("%q: %v, read again: %v, %v", text, c, again, err)
		}
	})
}

// TestConditionsRoundTrip writes random conditions, reads them, and compares what they say with what was meant.
func TestConditionsRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(6)
	roles := []string{RoleOwner, RoleReader, RoleVaultReader}
	held, failed := 0, 0
	for range 3000 {
		c := new(Condition)
		for range 1 + w.IntN(3) {
			cl := clause{action: w.pick(writeAssignments, deleteAssignments)}
			for range 1 + w.IntN(3) {
				te := test{attribute: w.pick(roleAttribute, principalAttribute, typeAttribute), except: w.IntN(2) == 0}
				for range 1 + w.IntN(2) {
					switch te.attribute {
					case roleAttribute:
						te.ids = append(te.ids, uuid.MustParse(w.pick(roles...)))
					case principalAttribute:
						te.ids = append(te.ids, uuid.MustParse(w.pick(somePeople...)))
					case typeAttribute:
						te.types, te.except = append(te.types, PrincipalType(w.pick("User", "Group", "ServicePrincipal"))), false
					}
				}
				cl.tests = append(cl.tests, te)
			}
			c.clauses = append(c.clauses, cl)
		}
		got := mustParseCondition(t, c.String())
		if fmt.Sprint(got) != fmt.Sprint(c) || len(got.clauses) != len(c.clauses) {
			t.Fatalf("%s became %s", c, got)
		}
		ch := &change{
			role: uuid.MustParse(w.pick(roles...)), principal: uuid.MustParse(w.pick(somePeople...)),
			principalType: PrincipalType(w.pick("", "User", "Group", "ServicePrincipal")),
		}
		want := !slices.ContainsFunc(c.clauses, func(cl clause) bool {
			return cl.action == writeAssignments && slices.ContainsFunc(cl.tests, func(te test) bool {
				return !slices.Contains(te.ids, ch.role) && te.attribute == roleAttribute && !te.except ||
					slices.Contains(te.ids, ch.role) && te.attribute == roleAttribute && te.except ||
					!slices.Contains(te.ids, ch.principal) && te.attribute == principalAttribute && !te.except ||
					slices.Contains(te.ids, ch.principal) && te.attribute == principalAttribute && te.except ||
					te.attribute == typeAttribute && !slices.Contains(te.types, ch.principalType)
			})
		})
		if got.holds(writeAssignments, ch) != want {
			t.Fatalf("%s for %+v: %v", got, ch, !want)
		}
		if want {
			held++
		} else {
			failed++
		}
	}
	if held < 300 || failed < 300 {
		t.Fatalf("%d held, %d did not", held, failed)
	}
}
