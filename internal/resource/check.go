package resource

import (
	"context"
	"errors"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// CheckRecord reads a record of this package with the code that would use it. ok is false for records of others.
func CheckRecord(key string, value []byte) (ok bool, err error) {
	switch {
	case strings.HasPrefix(key, vaultFamily.prefix):
		_, err = vaultFamily.decode(value)
	case strings.HasPrefix(key, hsmFamily.prefix):
		_, err = hsmFamily.decode(value)
	case strings.HasPrefix(key, "group/"):
		_, err = record.Decode[groupRecord](value)
	case strings.HasPrefix(key, definitionPrefix):
		_, err = record.Decode[definitionRecord](value)
	case strings.HasPrefix(key, assignmentPrefix):
		_, err = record.Decode[assignmentRecord](value)
	case key == generationKey:
		_, err = record.Decode[generationRecord](value)
	case strings.HasPrefix(key, "local/"):
		err = checkLocalRecord(key, value)
	case strings.HasPrefix(key, domainPrefix):
		_, err = decodeDomain(value)
	case key == installKey:
		_, err = record.Decode[installRecord](value)
	default:
		return false, nil
	}
	return true, err
}

// checkLocalRecord reads a record of a managed HSM's own roles. A role or an assignment must stand where its id says, else nobody could
// remove it.
func checkLocalRecord(key string, value []byte) error {
	content, _, _ := strings.Cut(strings.TrimPrefix(key, "local/"), "/")
	rest := strings.TrimPrefix(key, LocalPrefix(content))
	misplaced := errors.New("is not a record of this release")
	switch what, _, _ := strings.Cut(rest, "/"); {
	case what == "definition":
		rec, err := record.Decode[definitionRecord](value)
		if err == nil && key != localDefinitionKey(content, rec.ID) {
			err = misplaced
		}
		return err
	case what == "assignment":
		rec, err := record.Decode[localAssignmentRecord](value)
		if err == nil && key != localAssignmentKey(content, rec.ID) {
			err = misplaced
		}
		return err
	case key == localGenerationKey(content):
		_, err := record.Decode[generationRecord](value)
		return err
	case key == localSettingsKey(content):
		_, err := record.Decode[settingsRecord](value)
		return err
	}
	return misplaced
}

// CheckReferences reports what does not fit together: a deleted vault that nothing will purge, and a role or an assignment that
// grants nothing.
func (s *Service) CheckReferences(ctx context.Context, report func(key, problem string)) error {
	for _, f := range []*family{&vaultFamily, &hsmFamily} {
		vaults, err := s.all(ctx, f)
		if err != nil {
			return err
		}
		for _, v := range vaults {
			if err := s.checkVault(ctx, f, v.Name, report); err != nil {
				return err
			}
			if err := s.checkLocal(ctx, v, report); err != nil {
				return err
			}
		}
	}
	return s.db.View(ctx, func(r store.Reader) error {
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		told := false
		report := func(key, problem string) {
			told = true
			report(key, problem)
		}
		for _, a := range state.assignments {
			switch d := state.definition(a.RoleID); {
			case a.Scope.Kind() == authz.NoScope:
				report(assignmentKey(a.ID), "holds at no scope")
			case d == nil:
				report(assignmentKey(a.ID), "assigns a role that is not there")
			case !d.assignableAt(a.Scope):
				report(assignmentKey(a.ID), "assigns a role where it cannot be assigned")
			}
		}
		if !told { // what follows says it again, without the key
			for _, err := range state.roles.Ignored() {
				report(generationKey, "counts something that grants nothing: "+err.Error())
			}
		}
		return nil
	})
}

// checkLocal reports what a managed HSM in use lacks, and which of its own roles and assignments grant nothing.
func (s *Service) checkLocal(ctx context.Context, v *Vault, report func(key, problem string)) error {
	if v.family != &hsmFamily || v.Activation != Active {
		return nil
	}
	return s.db.View(ctx, func(r store.Reader) error {
		if there, err := record.Exists(r, v.domainKey()); err != nil {
			return err
		} else if !there {
			report(v.family.key(v.Name), "has no security domain")
		}
		state, err := s.localIn(r, v)
		if err != nil {
			return err
		}
		for _, d := range state.definitions {
			if !d.BuiltIn && !v.localScopes(d.AssignableScopes) {
				report(localDefinitionKey(v.ContentID(), d.ID), "can be assigned where there is nothing")
			}
		}
		for _, as := range state.assignments {
			switch d := state.definition(as.RoleID); {
			case v.localScope(as.Scope).Kind() == authz.NoScope:
				report(localAssignmentKey(v.ContentID(), as.ID), "holds at no scope")
			case d == nil:
				report(localAssignmentKey(v.ContentID(), as.ID), "assigns a role that is not there")
			case !v.assignableAt(d.RoleDefinition, as.Scope):
				report(localAssignmentKey(v.ContentID(), as.ID), "assigns a role where it cannot be assigned")
			}
		}
		return nil
	})
}

// checkVault looks at one vault again, in one snapshot with what belongs to it.
func (s *Service) checkVault(ctx context.Context, f *family, name string, report func(key, problem string)) error {
	return s.db.View(ctx, func(r store.Reader) error {
		v, err := s.load(r, f, name)
		if errors.Is(err, ErrVaultNotFound) {
			return nil // purged meanwhile
		}
		if err != nil {
			return err
		}
		if v.Deleted == 0 {
			return nil
		}
		there, err := record.Exists(r, f.dueKey(v.PurgeAt, v.Name))
		if err == nil && !there {
			report(f.key(v.Name), "is deleted, and nothing will purge it")
		}
		return err
	})
}
