package keyvault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// CheckRecord reads a record of this package with the code that would use it, for a verification of the whole store.
// Records of other packages are none of its business.
func CheckRecord(key string, value []byte) error {
	if known, err := resource.CheckRecord(key, value); known {
		return err
	}
	kind, _, _ := strings.Cut(key, "/")
	var err error
	switch kind {
	case "object", "deleted":
		_, err = record.Decode[objectRecord](value)
	case "version":
		_, err = record.Decode[versionRecord](value)
	case "garbage":
		_, err = record.Decode[garbageRecord](value)
	case "due":
		_, _, err = parseDue(key)
	case "event":
		_, err = record.Decode[eventRecord](value)
	case "value", "release", "audit", "identity", "pki", "server":
	default:
		err = fmt.Errorf("belongs to nothing that this release knows")
	}
	return err
}

// CheckReferences walks all objects and reports what does not fit together: an object without its current version, a
// version without its value, a key that its provider does not open, a count of versions that is wrong, a deleted object
// that nothing will purge, a key that nothing will rotate or give notice of. It looks at an object and all that belongs to
// it in one snapshot. Records that do not open are CheckRecord's and are passed over.
func (s *Service) CheckReferences(ctx context.Context, report func(key, problem string)) error {
	var failed errorList
	failed.add(s.resources.CheckReferences(ctx, report))
	known, err := s.resources.AllVaults(ctx)
	failed.add(err)
	vaults := make(map[string]*resource.Vault) // by the id of what is in them
	for _, v := range known {
		vaults[v.ContentID()] = v
	}
	for _, prefix := range []string{"object/", "deleted/"} {
		err := s.forEach(ctx, prefix, store.PrefixEnd(prefix), func(error) {}, func(e store.Entry) {
			vault, _, _ := strings.Cut(strings.TrimPrefix(e.Key, prefix), "/")
			err := s.db.View(ctx, func(r store.Reader) error {
				if vaults[vault] == nil {
					if purged, err := record.Exists(r, garbageKey(vault)); err != nil {
						return err
					} else if !purged {
						report(e.Key, "belongs to no vault")
					}
				}
				o, err := record.Get[objectRecord](r, e.Key)
				if errors.Is(err, store.ErrNotFound) {
					return nil // deleted or recovered meanwhile
				}
				if err != nil {
					return err
				}
				return s.checkObject(ctx, r, vaults[vault], prefix, e.Key, o, report)
			})
			var spoiled *seal.RecordError
			if !errors.As(err, &spoiled) {
				failed.add(err)
			}
		})
		failed.add(err)
	}
	return failed.join()
}

// checkObject checks an object of v, nil if that is not known.
func (s *Service) checkObject(ctx context.Context, r store.Reader, v *resource.Vault, prefix, key string, o *objectRecord,
	report func(key, problem string)) error {
	versions, current := 0, false
	for e, err := range r.Scan(versionPrefix(o.ID), store.PrefixEnd(versionPrefix(o.ID))) {
		if err != nil {
			return err
		}
		versions++
		version := strings.TrimPrefix(e.Key, versionPrefix(o.ID))
		current = current || version == o.Current
		if err := s.checkValue(ctx, r, v, o, valueKey(o.ID, version), e, report); err != nil {
			return err
		}
	}
	if !current {
		report(key, "has no current version")
	}
	if versions != o.Versions {
		report(key, fmt.Sprintf("should have %d versions and has %d", o.Versions, versions))
	}
	where := strings.TrimPrefix(key, prefix)
	missing := func(at int64, what, problem string) error {
		there, err := record.Exists(r, record.DueTime(at)+what+"/"+where)
		if err == nil && !there {
			report(key, problem)
		}
		return err
	}
	if prefix == "deleted/" {
		return missing(o.PurgeAt, "purge", "is deleted, and nothing will purge it")
	}
	return o.forDue(func(at int64, what string) error {
		return missing(at, what, map[string]string{
			dueRotate: "has a rotation policy, and nothing will rotate it",
			dueNotify: "expires, and nothing will give notice of it",
		}[what])
	})
}

// checkValue reports the version in e if its value, at key, is missing or is a key that does not open.
func (s *Service) checkValue(ctx context.Context, r store.Reader, v *resource.Vault, o *objectRecord, key string, e store.Entry,
	report func(key, problem string)) error {
	value, err := r.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		report(e.Key, "has no value")
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(value)
	rec, err := record.Decode[versionRecord](e.Value)
	if err != nil || rec.Key == nil || v == nil || s.hsm == nil {
		return nil // CheckRecord reports what does not decode
	}
	blob, err := s.unwrap(r, v, o, rec.Version, value)
	defer clear(blob)
	var refused *hsm.Error // the provider, as it runs, has no such keys; this one is not bad
	if err == nil {
		_, err = s.hsm.Open(ctx, rec.Key.spec(), blob)
	}
	if err != nil && !errors.As(err, &refused) {
		report(key, fmt.Sprintf("holds a key that does not open: %v", err))
	}
	return ctx.Err()
}

// Locate tells what the records at some keys belong to, as a person names it: "secret db-password of the vault demo, version
// 3f1c…". What it cannot tell is left out: the record that names the object may itself be the bad one.
func (s *Service) Locate(ctx context.Context, keys []string) (map[string]string, error) {
	vaults := make(map[string]string)  // "vault demo" by the id of what is in it
	objects := make(map[string]string) // description by id
	skip := func(error) {}
	known, err := s.resources.AllVaults(ctx)
	for _, v := range known {
		vaults[v.ContentID()] = familyWord(v.Tier == resource.ManagedHSM) + " " + v.Name
	}
	wanted := make(map[string]bool)
	for _, key := range keys {
		if parts := strings.Split(key, "/"); len(parts) == 3 && (parts[0] == "version" || parts[0] == "value") {
			wanted[parts[1]] = true
		}
	}
	for _, prefix := range []string{"object/", "deleted/"} {
		if len(wanted) == 0 {
			break
		}
		err = errors.Join(err, s.forEach(ctx, prefix, store.PrefixEnd(prefix), skip, func(e store.Entry) {
			parts := strings.Split(e.Key, "/")
			if o, err := record.Decode[objectRecord](e.Value); err == nil && wanted[o.ID] {
				objects[o.ID] = fmt.Sprintf("%s %s of the %s", parts[2], o.Name, vaults[parts[1]])
			}
		}))
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for _, key := range keys {
		parts := strings.Split(key, "/")
		switch {
		case len(parts) == 3 && objects[parts[1]] != "":
			out[key] = objects[parts[1]] + ", version " + parts[2]
		case len(parts) == 4 && (parts[0] == "object" || parts[0] == "deleted"):
			out[key] = fmt.Sprintf("%s %s of the %s", parts[2], parts[3], vaults[parts[1]])
		}
	}
	return out, nil
}
