package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// maxCertificate bounds a certificate that is read.
const maxCertificate = 64 << 10

func newAppCommand() *cobra.Command {
	return group("app", "Manage the applications and managed identities that can get tokens", newAppCreate(), newAppList(),
		newAppShow(), newAppDelete(), newAppOutsideID(),
		group("credential", "Manage how an application proves itself", newCredentialAdd(), newCredentialList(), newCredentialDelete()))
}

func appColumns() []string { return []string{"appId", "objectId", "displayName", "kind"} }

func credentialColumns() []string {
	return []string{"keyId", "type", "displayName", "hint", "startDateTime", "endDateTime"}
}

func newAppCreate() *cobra.Command {
	var (
		o   operation
		app admin.App
	)
	cmd := &cobra.Command{
		Use:   "create --display-name NAME",
		Short: "Create an application or a managed identity, which may do nothing yet",
		Long: `Create makes an application or a managed identity, which may do nothing yet. With the --object-id of one that was deleted it gets
back what that might do; credentials have to be added anew.`,
		Example: `  strongroom app create --display-name build-server
  strongroom app create --display-name batch --kind managedIdentity`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if app.DisplayName == "" {
				return usagef("--display-name is missing")
			}
			if app.Kind != "application" && app.Kind != "managedIdentity" {
				return usagef("--kind %s: there are application and managedIdentity", app.Kind)
			}
			return o.ask(cmd, http.MethodPost, "/apps", app, new(admin.App), appColumns()...)
		},
	}
	o.out.members = "appId or objectId"
	o.register(cmd)
	f := cmd.Flags()
	f.StringVar(&app.DisplayName, "display-name", "", "name for people")
	f.StringVar(&app.Kind, "kind", "application", "application or managedIdentity")
	f.StringVar(&app.ClientID, "id", "", "client id, a GUID (default a new one)")
	f.StringVar(&app.ObjectID, "object-id", "", "object id, a GUID (default a new one)")
	return cmd
}

func newAppList() *cobra.Command {
	var o operation
	cmd := &cobra.Command{
		Use: "list", Short: "List the applications and managed identities", Example: "  strongroom app list --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.ask(cmd, http.MethodGet, "/apps", nil, &[]admin.App{}, appColumns()...)
		},
	}
	o.out.members = "[].appId"
	o.register(cmd)
	return cmd
}

func newAppShow() *cobra.Command {
	var (
		o  operation
		id string
	)
	cmd := &cobra.Command{
		Use: "show --id ID", Short: "Show an application with its credentials, without their secrets",
		Example: "  strongroom app show --id build-server",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id == "" {
				return usagef("--id is missing: which application? (its client id or name)")
			}
			path, err := o.appPath(cmd.Context(), id)
			if err != nil {
				return err
			}
			return o.ask(cmd, http.MethodGet, path, nil, new(admin.App), appColumns()...)
		},
	}
	o.out.members = "appId or objectId"
	o.register(cmd)
	cmd.Flags().StringVar(&id, "id", "", "client id or name")
	return cmd
}

// appPath is the path of the application with that client id or name.
func (o *operation) appPath(ctx context.Context, id string) (string, error) {
	if uuid.Validate(id) != nil {
		socket, err := o.where.socket()
		if err != nil {
			return "", err
		}
		found, err := findApps(ctx, socket, id)
		switch {
		case err != nil:
			return "", err
		case len(found) == 0:
			return "", &notFoundError{fmt.Sprintf("there is no application %q; strongroom app list shows them", id)}
		case len(found) > 1:
			return "", usagef("%d applications have the name %q: give the client id of the one that you mean (strongroom app list)", len(found), id)
		}
		id = found[0].ClientID
	}
	return "/apps/" + url.PathEscape(id), nil
}

func newAppDelete() *cobra.Command {
	var (
		o   operation
		id  string
		yes bool
	)
	cmd := &cobra.Command{
		Use: "delete --id ID", Short: "Delete an application; its tokens are refused from then on",
		Long: `Delete removes an application with its credentials; its tokens are refused from then on. The administrator that init made, the last
owner of the subscription and the last administrator of a vault are deleted only with --yes. "strongroom app create --object-id" with the same object id is the way back.`,
		Example: "  strongroom app delete --id 9b2f…",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id == "" {
				return usagef("--id is missing: which application? (its client id or name)")
			}
			path, err := o.appPath(cmd.Context(), id)
			if err != nil {
				return err
			}
			if !yes {
				if err := o.checkDelete(cmd.Context(), path); err != nil {
					return err
				}
			}
			return o.ask(cmd, http.MethodDelete, path, nil, nil)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&id, "id", "", "client id or name")
	cmd.Flags().BoolVar(&yes, "yes", false, "delete also an administrator whom nobody replaces")
	return cmd
}

// checkDelete refuses to delete an application without which something cannot be administered any more.
func (o *operation) checkDelete(ctx context.Context, path string) error {
	dir, err := o.where.folder()
	if err != nil {
		return err
	}
	var (
		socket = admin.NewClient(dir)
		app    admin.App
		owners []admin.Owner
	)
	if err := socket.Do(ctx, http.MethodGet, path, nil, &app); err != nil {
		return err
	}
	vaults, err := liveVaults(ctx, socket)
	if err != nil {
		return err
	}
	if err := socket.Do(ctx, http.MethodGet, "/owners", nil, &owners); err != nil {
		return err
	}
	var roles []string
	// The file is often moved away; then the name that init gives is what tells.
	c, err := server.ReadCredentials(filepath.Join(dir, server.AdministratorFile))
	if err == nil && c.ClientID == app.ClientID || err != nil && app.DisplayName == "administrator" {
		roles = append(roles, "the administrator that init made")
	}
	if len(owners) == 1 && strings.EqualFold(owners[0].PrincipalID, app.ObjectID) {
		roles = append(roles, "the last owner of the subscription")
	}
	for _, v := range vaults {
		if len(v.Administrators) == 1 && strings.EqualFold(v.Administrators[0], app.ObjectID) {
			roles = append(roles, "the last administrator of the vault "+v.Name)
		}
	}
	if len(roles) == 0 {
		return nil
	}
	return fmt.Errorf("%s is %s: its credentials go for good, and nobody does its work then; give --yes if you really want that. "+
		"The way back is strongroom app create --object-id %s, and a new credential", app.DisplayName, strings.Join(roles, " and "), app.ObjectID)
}

// newAppOutsideID asks no server: the ids follow from the arguments alone.
func newAppOutsideID() *cobra.Command {
	var (
		out                    output
		issuer, subject, group string
	)
	cmd := &cobra.Command{
		Use:   "outside-id --issuer URL {--subject SUB | --group NAME}",
		Short: "Print by which object id vaults know a principal or a group of an outside issuer",
		Long: `Outside-id prints the object id that a principal or a group has here if it comes from a configured issuer without a tenant, such
as a Kubernetes cluster or Keycloak. It is derived from the issuer and from the claim sub, or an entry of the claim groups, each exactly
as in the tokens: a slash more at the end of the issuer gives another id. "administrator" is what administrator add --assignee takes.`,
		Example: `  strongroom app outside-id --issuer https://kubernetes.example --subject system:serviceaccount:prod:api
  strongroom app outside-id --issuer https://keycloak.example/realms/main --group vault-admins`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if issuer == "" || (subject == "") == (group == "") {
				return usagef("--issuer is needed, and one of --subject and --group")
			}
			id, err := server.OutsideID(issuer, subject, group)
			if err != nil {
				return usagef("%v", err)
			}
			return out.print(cmd.OutOrStdout(), id, "objectId", "administrator")
		},
	}
	out.register(cmd)
	f := cmd.Flags()
	f.StringVar(&issuer, "issuer", "", "the claim iss of its tokens")
	f.StringVar(&subject, "subject", "", "the claim sub of the principal's tokens")
	f.StringVar(&group, "group", "", "an entry of the claim groups")
	return cmd
}

func newCredentialAdd() *cobra.Command {
	var (
		o             operation
		id, pem, file string
		in            admin.NewCredential
	)
	cmd := &cobra.Command{
		Use:   "add --id ID --type TYPE",
		Short: "Add a credential; a new secret is shown this once",
		Long: `Add gives an application one more credential. A new secret is shown this once; with --credentials-file it is not shown but written
to a new file of mode 0600, which the commands about secrets, keys, vaults and roles take as --credentials, and env too.`,
		Example: `  strongroom app credential add --id 9b2f… --type secret --days 90
  strongroom app credential add --id build-server --credentials-file build-server.json
  strongroom app credential add --id 9b2f… --type certificate --cert client.pem
  strongroom app credential add --id 9b2f… --type federated --issuer https://kubernetes.example \
    --subject system:serviceaccount:prod:api --audience api://AzureADTokenExchange
  strongroom app credential add --id 9b2f… --type identityHeader`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id == "" {
				return usagef("--id is missing: which application? (its client id or name)")
			}
			if err := checkCredential(&in, pem); err != nil {
				return err
			}
			if pem != "" {
				content, err := readInput(cmd, pem, maxCertificate)
				if err != nil {
					return err
				}
				in.Certificate = string(content)
			}
			path, err := o.appPath(cmd.Context(), id)
			if err != nil {
				return err
			}
			if file != "" {
				return o.addToFile(cmd, path, in, file)
			}
			return o.ask(cmd, http.MethodPost, path+"/credentials", in, new(admin.Credential),
				append(credentialColumns(), "secretText")...)
		},
	}
	o.out.members = "secretText or keyId"
	o.register(cmd)
	f := cmd.Flags()
	f.StringVar(&id, "id", "", "client id or name")
	f.StringVar(&in.Type, "type", "secret", "secret, certificate, federated or identityHeader")
	f.StringVar(&in.DisplayName, "display-name", "", "name for people")
	f.IntVar(&in.Days, "days", 0, "life of a secret (0 is the server's default)")
	f.StringVar(&pem, "cert", "", "PEM file with the certificate; - is standard input")
	f.StringVar(&file, "credentials-file", "", "new file for a secret, instead of showing it")
	f.StringVar(&in.Issuer, "issuer", "", "issuer of federated tokens, one that the server's configuration trusts")
	f.StringVar(&in.Subject, "subject", "", "their subject")
	f.StringVar(&in.Audience, "audience", "api://AzureADTokenExchange", "their audience")
	return cmd
}

// addToFile adds a secret and writes it to a new file, in the form in which init leaves the administrator's. The file is made first: a
// secret that cannot be kept would be lost.
func (o *operation) addToFile(cmd *cobra.Command, app string, in admin.NewCredential, path string) (err error) {
	if in.Type != "secret" && in.Type != "identityHeader" {
		return usagef("--credentials-file goes with --type secret and identityHeader")
	}
	if err := o.out.check(); err != nil {
		return err
	}
	socket, err := o.where.socket()
	if err != nil {
		return err
	}
	var of admin.App
	if err := socket.Do(cmd.Context(), http.MethodGet, app, nil, &of); err != nil {
		return err
	}
	status, err := readStatus(cmd.Context(), socket)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	var made admin.Credential
	if err := socket.Do(cmd.Context(), http.MethodPost, app+"/credentials", in, &made); err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	enc.SetIndent("", "  ")
	err = enc.Encode(server.Credentials{TenantID: status.TenantID, ClientID: of.ClientID, ObjectID: of.ObjectID, Secret: made.Secret})
	if err = errors.Join(err, f.Sync()); err != nil {
		return err
	}
	made.Secret = ""
	return o.out.print(cmd.OutOrStdout(), made, credentialColumns()...)
}

// checkCredential refuses flags that do not belong to the type.
func checkCredential(in *admin.NewCredential, pem string) error {
	switch in.Type {
	case "secret", "identityHeader", "certificate", "federated":
	default:
		return usagef("--type %s: there are secret, certificate, federated and identityHeader", in.Type)
	}
	switch {
	case (in.Type == "certificate") != (pem != ""):
		return usagef("--cert belongs to --type certificate, and is needed there")
	case (in.Type == "federated") != (in.Issuer != "" && in.Subject != ""):
		return usagef("--issuer and --subject belong to --type federated, and are needed there")
	case in.Days != 0 && in.Type != "secret":
		return usagef("--days belongs to --type secret")
	case in.Days < 0:
		return usagef("--days %d is not a life", in.Days)
	}
	if in.Type != "federated" {
		in.Audience = ""
	}
	return nil
}

func newCredentialList() *cobra.Command {
	var (
		o  operation
		id string
	)
	cmd := &cobra.Command{
		Use: "list --id ID", Short: "List the credentials of an application, without their secrets",
		Example: "  strongroom app credential list --id 9b2f… --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id == "" {
				return usagef("--id is missing: which application? (its client id or name)")
			}
			if err := o.out.check(); err != nil {
				return err
			}
			socket, err := o.where.socket()
			if err != nil {
				return err
			}
			path, err := o.appPath(cmd.Context(), id)
			if err != nil {
				return err
			}
			var app admin.App
			if err := socket.Do(cmd.Context(), http.MethodGet, path, nil, &app); err != nil {
				return err
			}
			return o.out.print(cmd.OutOrStdout(), append([]admin.Credential{}, app.Credentials...), credentialColumns()...)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&id, "id", "", "client id or name")
	return cmd
}

func newCredentialDelete() *cobra.Command {
	var (
		o       operation
		id, key string
	)
	cmd := &cobra.Command{
		Use: "delete --id ID --key-id KEY-ID", Short: "Remove a credential; it is refused from then on",
		Example: "  strongroom app credential delete --id 9b2f… --key-id 41c0…",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id == "" || key == "" {
				return usagef("--id and --key-id are needed: which credential of which application?")
			}
			path, err := o.appPath(cmd.Context(), id)
			if err != nil {
				return err
			}
			return o.ask(cmd, http.MethodDelete, path+"/credentials/"+url.PathEscape(key), nil, nil)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&id, "id", "", "client id or name")
	cmd.Flags().StringVar(&key, "key-id", "", "id of the credential, as list shows it")
	return cmd
}
