package resource

import (
	"context"
	"errors"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// A Group is a resource group: a name under which vaults stand together, and a scope for roles.
type Group struct {
	Name     string
	Location string
	Tags     map[string]string
	Created  int64
}

type groupRecord struct {
	record.Format
	Name     string            `json:"name"`
	Location string            `json:"location"`
	Tags     map[string]string `json:"tags,omitempty"`
	Created  int64             `json:"created"`
}

func (g *groupRecord) group() Group {
	return Group{Name: g.Name, Location: g.Location, Tags: maps.Clone(g.Tags), Created: g.Created}
}

func groupKey(name string) string { return "group/" + strings.ToLower(name) }

// Actions on groups.
const (
	readGroup   = "Microsoft.Resources/subscriptions/resourceGroups/read"
	writeGroup  = "Microsoft.Resources/subscriptions/resourceGroups/write"
	deleteGroup = "Microsoft.Resources/subscriptions/resourceGroups/delete"
)

// groupScope returns the scope of a group, which need not exist. A name that no group can have is one that is not there.
func (s *Service) groupScope(name string) (authz.Scope, error) {
	scope, err := authz.ParseScope(s.subscription() + "/resourceGroups/" + name)
	if err != nil || scope.Kind() != authz.GroupScope || strings.HasSuffix(name, ".") {
		return authz.Scope{}, noGroup(name)
	}
	return scope, nil
}

func loadGroup(r store.Reader, name string) (*groupRecord, error) {
	g, err := record.Get[groupRecord](r, groupKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, noGroup(name)
	}
	return g, err
}

// Limits of a resource's tags, Azure's.
const (
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
)

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return invalidProperty("tags", "There are %d tags: %d are allowed.", len(tags), maxTags)
	}
	for name, value := range tags {
		if name == "" || !utf8.ValidString(name) || !utf8.ValidString(value) ||
			utf8.RuneCountInString(name) > maxTagName || utf8.RuneCountInString(value) > maxTagValue {
			return invalidProperty("tags", "The name of a tag has 1 to %d characters, its value %d at most.", maxTagName, maxTagValue)
		}
	}
	return nil
}

// location returns a place in the spelling of the configuration: "West Europe" and "westeurope" are the same.
func (s *Service) location(text string) (string, error) {
	if len(s.cfg.Locations) == 0 {
		const limit = 64
		if text == "" || len(text) > limit {
			return "", &Error{Kind: LocationNotAvailable, Target: "location", Message: "The resource needs a location."}
		}
		return text, nil
	}
	for _, known := range s.cfg.Locations {
		if sameLocation(known, text) {
			return known, nil
		}
	}
	return "", &Error{Kind: LocationNotAvailable, Target: "location", Message: "The provided location '" + bounded(text) + "' is not available. " +
		"Available locations are '" + strings.Join(s.cfg.Locations, ",") + "'."}
}

func sameLocation(a, b string) bool {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	return plain(a) == plain(b)
}

// bounded cuts a caller's text down to what an error message may repeat.
func bounded(s string) string {
	const limit = 90
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// PutGroup makes a group, or changes the tags of one that is there.
func (s *Service) PutGroup(ctx context.Context, a Actor, g Group) (out Group, created bool, err error) {
	scope, err := s.groupScope(g.Name)
	if err != nil {
		return Group{}, false, &Error{Kind: InvalidProperty, Target: "resourceGroupName", Message: "The name of a resource group has 1 to 90 " +
			"letters, digits, hyphens, underscores, periods and parentheses, and does not end with a period."}
	}
	if err := checkTags(g.Tags); err != nil {
		return Group{}, false, err
	}
	err = s.changeGroup(ctx, a, "GroupPut", writeGroup, scope, g.Name, func(tx store.Tx) error {
		location, err := s.location(g.Location)
		if err != nil {
			return err
		}
		rec, err := loadGroup(tx, g.Name)
		created = IsKind(err, ResourceGroupNotFound)
		switch {
		case created:
			rec = &groupRecord{Format: record.Current(), Name: g.Name, Location: location, Created: s.now().Unix()}
		case err != nil:
			return err
		case !sameLocation(rec.Location, location):
			return &Error{Kind: ConflictError, Message: "The resource group '" + rec.Name + "' is in the location '" + rec.Location +
				"', which cannot be changed."}
		}
		rec.Tags = g.Tags
		out = rec.group()
		return record.Put(tx, groupKey(g.Name), rec)
	})
	return out, created, err
}

func (s *Service) changeGroup(ctx context.Context, a Actor, operation, action string, scope authz.Scope, name string,
	fn func(store.Tx) error) error {
	may := func(r store.Reader) error { return s.authorize(r, a, action, scope) }
	return s.change(ctx, a, deed{operation, s.subscription() + "/resourceGroups/" + name, name, ""}, may, fn)
}

// UpdateGroupTags replaces the tags of a group.
func (s *Service) UpdateGroupTags(ctx context.Context, a Actor, name string, tags map[string]string) (out Group, err error) {
	scope, err := s.groupScope(name)
	if err != nil {
		return Group{}, err
	}
	if err := checkTags(tags); err != nil {
		return Group{}, err
	}
	err = s.changeGroup(ctx, a, "GroupPatch", writeGroup, scope, name, func(tx store.Tx) error {
		rec, err := loadGroup(tx, name)
		if err != nil {
			return err
		}
		rec.Tags = tags
		out = rec.group()
		return record.Put(tx, groupKey(name), rec)
	})
	return out, err
}

// GetGroup returns a group.
func (s *Service) GetGroup(ctx context.Context, a Actor, name string) (out Group, err error) {
	scope, err := s.groupScope(name)
	if err != nil {
		return Group{}, err
	}
	err = s.db.View(ctx, func(r store.Reader) error {
		if err := s.authorize(r, a, readGroup, scope); err != nil {
			return err
		}
		rec, err := loadGroup(r, name)
		if err == nil {
			out = rec.group()
		}
		return err
	})
	return out, err
}

// GroupExists tells whether there is a group of that name.
func (s *Service) GroupExists(ctx context.Context, a Actor, name string) (bool, error) {
	_, err := s.GetGroup(ctx, a, name)
	if IsKind(err, ResourceGroupNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ListGroups returns the groups that the actor may read, by name.
func (s *Service) ListGroups(ctx context.Context, a Actor) ([]Group, error) {
	var out []Group
	err := s.db.View(ctx, func(r store.Reader) error {
		out = nil
		for e, err := range r.Scan("group/", store.PrefixEnd("group/")) {
			if err != nil {
				return err
			}
			rec, err := record.Decode[groupRecord](e.Value)
			if err != nil {
				return err
			}
			scope, err := s.groupScope(rec.Name)
			if err != nil {
				continue
			}
			if err := s.authorize(r, a, readGroup, scope); err == nil {
				out = append(out, rec.group())
			} else if !IsKind(err, AuthorizationFailed) {
				return err
			}
		}
		return nil
	})
	return out, err
}

// DeleteGroup removes a group, soft-deletes the vaults and managed HSMs in it, and removes what was assigned at it and in it. The actor
// must be allowed to delete each of them, too. To recover one, the group must be there again. Each is deleted in a transaction
// of its own and on record by itself; if not all can be, the group stays with those that are left.
func (s *Service) DeleteGroup(ctx context.Context, a Actor, name string) error {
	scope, err := s.groupScope(name)
	if err != nil {
		return err
	}
	var content []*Vault
	err = s.db.View(ctx, func(r store.Reader) error {
		content, err = s.deletable(r, a, scope, name)
		return err
	})
	if err != nil {
		return err
	}
	for _, v := range content {
		if _, err := s.remove(ctx, a.asPart(), v.family, name, v.Name); err != nil {
			return err
		}
	}
	for more := true; more; {
		err := s.changeGroup(ctx, a, "GroupDelete", deleteGroup, scope, name, func(tx store.Tx) error {
			if _, err := loadGroup(tx, name); err != nil {
				return err
			}
			left, err := s.content(tx, name)
			if err != nil {
				return err
			}
			if len(left) > 0 {
				return &Error{Kind: GroupNotEmpty, Message: "The " + left[0].family.word + " '" + left[0].Name + "' was made in the resource group '" +
					bounded(name) + "' while that was being deleted. What was in it before is deleted. Try again to delete the rest."}
			}
			if more, err = s.dropAssignments(tx, scope); err != nil || more {
				return err
			}
			return tx.Delete(groupKey(name))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deletable returns the live vaults and managed HSMs in a group that the actor may delete with all of them, or the refusal.
func (s *Service) deletable(r store.Reader, a Actor, scope authz.Scope, name string) ([]*Vault, error) {
	if err := s.authorize(r, a, deleteGroup, scope); err != nil {
		return nil, err
	}
	if _, err := loadGroup(r, name); err != nil {
		return nil, err
	}
	all, err := s.content(r, name)
	for _, v := range all {
		if err == nil {
			err = s.authorize(r, a, v.family.delete, v.Scope())
		}
	}
	return all, err
}

// content returns the live vaults and managed HSMs in a group.
func (s *Service) content(r store.Reader, group string) (out []*Vault, err error) {
	for _, f := range []*family{&vaultFamily, &hsmFamily} {
		for e, err := range r.Scan(f.prefix, store.PrefixEnd(f.prefix)) {
			if err != nil {
				return nil, err
			}
			v, err := f.decode(e.Value)
			if err != nil {
				return nil, err
			}
			if v.Deleted == 0 && strings.EqualFold(v.ResourceGroup, group) {
				out = append(out, v)
			}
		}
	}
	return out, nil
}
