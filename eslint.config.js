import tseslint from "typescript-eslint";

// Clock, chance and the environment reach code through lib/clock, lib/random and main/config only: tests own time that way.
const ambient = [
  { selector: "MemberExpression[object.name='Date'][property.name='now']", message: "take a Clock (lib/clock)" },
  { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: "take a Clock (lib/clock)" },
  { selector: "MemberExpression[object.name='Math'][property.name='random']", message: "take a Random (lib/random)" },
  {
    selector: "MemberExpression[object.name='process'][property.name='env']",
    message: "read the environment in main/ only",
  },
  { selector: "CallExpression[callee.name=/^set(Timeout|Interval)$/]", message: "take a Clock (lib/clock)" },
];

// A bundler may give the parts of a package loaded on demand other names than Node does (those of CommonJS only `default`).
const onDemand = {
  selector: "ImportExpression[source.value!=/^\\./]",
  message: "load a module of our own on demand that imports the package",
};

export default tseslint.config(
  { ignores: ["node_modules", "dist", "test-results", "eslint.config.js", ".dependency-cruiser.cjs", "web/dist"] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/no-unused-vars": [
        "error",
        { varsIgnorePattern: "^_", argsIgnorePattern: "^_", ignoreRestSiblings: true },
      ],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-unnecessary-condition": [
        "error",
        { allowConstantLoopConditions: "only-allowed-literals" },
      ],
      "@typescript-eslint/no-non-null-assertion": "error",
    },
  },
  {
    files: ["src/**/*.ts"],
    ignores: ["src/lib/clock.ts", "src/lib/random.ts", "src/main/**", "src/dev/**", "**/*.test.ts"],
    rules: { "no-restricted-syntax": ["error", ...ambient, onDemand] },
  },
  {
    files: ["src/main/**/*.ts"],
    rules: { "no-restricted-syntax": ["error", onDemand] },
  },
);
