// A real OpenID provider (oidc-provider) with its development interactions: any account signs in with any password.
// Prints its issuer when it is ready; a line on its input replaces its keys.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const { Provider } = await import(pathToFileURL(`${process.env.OIDC_MODULES}/oidc-provider/lib/index.js`));
// Claims by account.
const accounts = JSON.parse(process.env.OIDC_ACCOUNTS ?? '{}');

function key() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function client(client_id, more) {
  return {
    client_id,
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1/callback', 'http://127.0.0.1/console/sign-in/return'],
    grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code'],
    ...more,
  };
}

function provider(issuer) {
  return new Provider(issuer, {
    clients: [
      client('mcpctl', { token_endpoint_auth_method: 'none' }),
      client('mcpctl-confidential', { client_secret: 'a secret: of a client' }),
    ],
    claims: { openid: ['sub'], profile: ['preferred_username', 'name'], groups: ['groups'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['cookies'] },
    features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
    findAccount: (_, accountId) => ({
      accountId,
      claims: () => ({ sub: accountId, preferred_username: accountId, ...accounts[accountId] }),
    }),
    jwks: { keys: [key()] },
    pkce: { required: () => true },
    scopes: ['openid', 'profile', 'groups'],
  });
}

let handler;
const server = createServer((request, response) => handler(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  handler = provider(issuer).callback();
  process.stdout.write(`${issuer}\n`);
  createInterface({ input: process.stdin }).on('line', () => {
    handler = provider(issuer).callback();
    process.stdout.write('rotated\n');
  }).on('close', () => process.exit(0));
});
